"""`rtmdet migrate`: a short config over the user's own, and a list of what was replaced."""

import pytest
from click.testing import CliRunner
from mmengine.config import Config

from rtmdet_cli.main import main
from rtmdet_plugin import drop_in

BASE = "_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'\n"
MINE = BASE + "model = dict(bbox_head=dict(num_classes=3, loss_bbox=dict(type='CIoULoss')))\n"


@pytest.fixture
def mine(tmp_path):
    (tmp_path / 'configs').mkdir()
    file = tmp_path / 'configs' / 'mine.py'
    file.write_text(MINE)
    return file


def rtmdet(*arguments):
    return CliRunner().invoke(main, ['migrate', *map(str, arguments)])


def test_writes_a_config_over_the_original_and_lists_the_changes(mine, tmp_path):
    done = rtmdet(mine, '-o', tmp_path / 'ours' / 'rtmdet.py')
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    loss = '  model.bbox_head.loss_bbox: CIoULoss stays; there is no counterpart'
    assert lines[0] == 'Replaced:' and lines[-3:-1] == ['Not replaced:', loss]
    assert '  model.backbone: CSPNeXt -> RTMCSPNeXt' in lines
    assert lines[-1].endswith('rtmdet.py: written; its base is ../configs/mine.py')
    text = (tmp_path / 'ours' / 'rtmdet.py').read_text()
    assert f'# {loss}' in text.splitlines() and max(map(len, text.splitlines())) <= 120
    assert text.endswith("\n_base_ = '../configs/mine.py'\n\nfrom rtmdet_plugin import drop_in\n\ndrop_in(_base_)\n")
    expected = Config.fromfile(mine)
    drop_in(expected)
    assert Config.fromfile(tmp_path / 'ours' / 'rtmdet.py').to_dict() == expected.to_dict()
    assert mine.read_text() == MINE


def test_default_names(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rtmdet(mine).exit_code == rtmdet('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py').exit_code == 0
    assert (mine.parent / 'mine_rtm.py').is_file()
    shipped = (tmp_path / 'rtmdet_s_8xb32-300e_coco_rtm.py').read_text()
    assert "_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'" in shipped


def test_a_config_that_only_mentions_read_base_is_a_base(mine):
    mine.write_text(f'# without read_base()\n{MINE}')
    assert rtmdet(mine).stdout.splitlines()[-1].endswith('its base is mine.py')


def test_a_dump_of_a_config_with_read_base_is_a_base(mine):
    """mmengine writes the classes as strings, so the file itself is of the old style."""
    backbone = "type='mmdet.models.backbones.cspnext.CSPNeXt'"
    head = "type='mmdet.models.dense_heads.rtmdet_head.RTMDetSepBNHead', anchor_generator=dict(strides=[8, 16, 32])"
    model = f"type='mmdet.models.detectors.rtmdet.RTMDet', backbone=dict({backbone}), bbox_head=dict({head})"
    mine.write_text(f'default_scope = None\nmodel = dict({model})\n')
    done = rtmdet(mine, '-o', mine.parent / 'out.py')
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].endswith('its base is mine.py')
    moved = Config.fromfile(mine.parent / 'out.py')
    types = [part.type for part in (moved.model, moved.model.backbone, moved.model.bbox_head)]
    assert types == ['RTMDet', 'RTMCSPNeXt', 'RTMDetSepBNHead'] and moved.default_scope == 'mmdet'


def test_a_config_with_read_base_is_copied(mine):
    """No `_base_` can name it. The classes of its types become names; those of other packages become paths."""
    head = 'bbox_head=dict(type=RTMDetSepBNHead, anchor_generator=dict(strides=[8, 16, 32]))'
    base = mine.with_name('base.py')
    base.write_text(
        'from mmdet.models import CSPNeXt, RTMDet, RTMDetSepBNHead\nfrom http.client import HTTPConnection\n\n'
        'default_scope = None\n'
        f'model = dict(type=RTMDet, backbone=dict(type=CSPNeXt), neck=dict(type=HTTPConnection), {head})\n'
    )
    mine.write_text('from mmengine.config import read_base\n\nwith read_base():\n    from .base import *\n')
    done = rtmdet(mine, '-o', mine.parent / 'out.py')
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].endswith('out.py: written; it is a complete copy of mine.py')
    text = (mine.parent / 'out.py').read_text()
    assert '# Not replaced:\n#   model.neck: HTTPConnection stays' in text and 'read_base' not in text.split('\n\n')[1]
    moved = Config.fromfile(mine.parent / 'out.py')
    assert moved.model.backbone.type == 'RTMCSPNeXt' and moved.model.bbox_head.type == 'RTMDetSepBNHead'
    assert moved.model.neck.type == 'http.client.HTTPConnection' and moved.default_scope == 'mmdet'
    expected = Config.fromfile(mine)
    drop_in(expected)
    assert moved.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    ('text', 'out', 'said'),
    [
        (MINE, 'mine.py', 'mine.py exists already; choose another name with -o'),
        (MINE, 'out.txt', 'out.txt must end in .py'),
        ("_base_ = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'\n", 'out.py', 'got YOLOXHead; no other detector'),
        ('with read_base():\n    from .rtmdet import *\n', 'out.py', 'rtmdet.py not found'),
        ('model = 1\n', 'out.py', 'must be the config of a detector'),
        ('model = \n', 'out.py', 'not a config that mmengine can read'),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(text, out, said, mine):
    mine.write_text(text)
    done = rtmdet(mine, '-o', mine.parent / out)
    assert done.exit_code == 1 and len(done.stderr.splitlines()) == 1 and said in done.stderr, done.output
    assert list(mine.parent.iterdir()) == [mine] and mine.read_text() == text
