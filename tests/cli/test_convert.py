"""`rtmdet convert` on a file as mmyolo writes it; the other commands take that file as it is."""

import re

import pytest
import torch
from click.testing import CliRunner

from rtmdet_cli.main import main
from rtmdet_plugin.checkpoints.mmyolo_keys import rename


@pytest.fixture
def theirs(shapes_model, tmp_path):
    state = rename(shapes_model.state_dict(), 'mmyolo')
    meta = dict(dataset_meta=shapes_model.dataset_meta, cfg='model = dict()')
    torch.save(dict(state_dict=state, meta=meta, optimizer={}), tmp_path / 'mmyolo.pth')
    return tmp_path / 'mmyolo.pth'


def rtmdet(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_says_what_it_wrote_and_what_not(theirs, shapes_model, tmp_path):
    count = len(shapes_model.state_dict())
    done = rtmdet('convert', theirs, tmp_path / 'ours.pth', '--to', 'mmdet')
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-2:] == [
        f'{tmp_path}/ours.pth: {count} tensors, weights, in the names of mmdet, for model.bbox_head.exp_on_reg=False',
        'dropped: optimizer, meta.cfg',
    ]
    done = rtmdet('convert', tmp_path / 'ours.pth', tmp_path / 'back.pth', '--to', 'mmyolo')
    assert done.output.splitlines()[-1] == f'{tmp_path}/back.pth: {count} tensors, weights, in the names of mmyolo'
    done = rtmdet('publish', theirs, '-o', tmp_path / 'published.pth')
    assert "weights, converted from mmyolo's names, " in done.output


@pytest.mark.parametrize(
    ('source', 'target', 'to', 'said'),
    [
        ('none.pth', 'out.pth', 'mmdet', 'none.pth: no such checkpoint'),
        ('mmyolo.pth', 'mmyolo.pth', 'mmdet', 'mmyolo.pth would replace the input'),
        ('mmyolo.pth', 'out.onnx', 'mmdet', 'must end in .safetensors, .pth, got .onnx'),
        ('mmyolo.pth', 'out.pth', 'mmyolo', "got mmyolo's already; there is nothing to convert"),
    ],
)
def test_bad_input_is_one_line(theirs, tmp_path, source, target, to, said):
    before = theirs.read_bytes()
    done = rtmdet('convert', tmp_path / source, tmp_path / target, '--to', to)
    assert done.exit_code == 1 and len(done.stderr.splitlines()) == 1 and said in done.stderr, done.output
    assert list(tmp_path.iterdir()) == [theirs] and theirs.read_bytes() == before


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        (
            ['backbone.stem.conv.weight', 'neck.top_down_layers.0.0.x', 'bbox_head.head_module.convs_pred.0.weight'],
            'got another detector of mmyolo, with bbox_head.head_module.convs_pred.0.weight',  # YOLOv5
        ),
        (
            [
                'neck.out_layers.0.x',
                *(f'bbox_head.head_module.{kind}_preds.0.0.conv.weight' for kind in ('cls', 'reg')),
            ],
            'got another detector of mmyolo, with bbox_head.head_module.cls_preds.0.0.conv.weight, ',  # YOLOv8
        ),
        (['model.0.conv.weight', 'model.0.bn.bias'], 'those of RTMDet, .* got model.0.conv.weight, model.0.bn.bias'),
        (['bbox_head.rtm_cls.0.bias', 'neck.out_layers.0.conv.weight'], 'got a half converted state dict with keys of'),
    ],
)
def test_other_checkpoints_are_named_in_one_line(names, said, tmp_path):
    source = tmp_path / 'other.pth'
    torch.save(dict(state_dict={name: torch.zeros(1) for name in names}), source)
    for to in ('mmdet', 'mmyolo'):
        done = rtmdet('convert', source, tmp_path / 'out.pth', '--to', to)
        assert done.exit_code == 1 and len(done.stderr.splitlines()) == 1, done.output
        assert re.search(f'other.pth: .*{said}', done.stderr)
    assert list(tmp_path.iterdir()) == [source]
