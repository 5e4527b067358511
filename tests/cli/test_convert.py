"""`rtmdet convert` on a file as mmyolo writes it; the other commands take that file as it is."""

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
