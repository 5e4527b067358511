"""The config of a checkpoint is read without running it."""

import pytest
import torch

from rtmdet_plugin.checkpoints.config_as_data import TYPES, find_config, read_as_data, types_in
from rtmdet_plugin.checkpoints.load_model import load_config, load_model

MODEL = "model = dict(type='RTMDet', backbone=dict(type='CSPNeXt'))\n"


def test_a_config_that_mmengine_wrote_is_read_as_it_is(shapes_config):
    config = shapes_config()
    found = read_as_data(config.pretty_text, 'it')
    assert found.model.backbone == {k: v for k, v in config.model.backbone.items() if k != 'init_cfg'}
    assert found.test_dataloader.dataset.pipeline == config.test_dataloader.dataset.pipeline
    assert 'train_cfg' not in found.model and 'optim_wrapper' not in found
    assert read_as_data(MODEL + 'import os\na = model\nval = dict(b=test_pipeline)', 'it').model.type == 'RTMDet'


@pytest.mark.parametrize(
    'name',
    [
        'rtmdet_plugin::rtmdet_nano_person.py',
        'rtmdet_plugin::rtmdet_ins_s.py',
        'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
        'mmdet::rtmdet/rtmdet-ins_s_8xb32-300e_coco.py',
    ],
)
def test_shipped_configs_have_no_other_types(name):
    model = read_as_data(load_config(name).pretty_text, 'it').model
    assert {'RTMDet', 'BN', 'SyncBN'} & types_in(model) and types_in(model) <= TYPES


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ("model = dict(type='RTMDet', backbone=dict(type='os.system', command='touch pwned'))", "got 'os.system'"),
        ("model = dict(type='RTMDet', neck=[dict(type='mmengine.dump', obj=1)])", "got 'mmengine.dump'"),
        ("model = dict(type='RTMDet', backbone=__import__('os').system('touch pwned'))", 'must have plain values'),
        ("import os\nos.system('touch pwned')\nmodel = dict(**os.environ)", 'must have plain values'),
        ('model = {**{}}', 'must have plain values'),
        ("model = [x for x in 'ab']", 'must have plain values'),
        ("_base_ = 'a.py'\n" + MODEL, 'no _base_'),
        ('a = 1', 'must have a model'),
        ('model = 1', 'must have a model'),
        ('model = dict(', 'must have plain values'),
        ('model = ' + '[' * 1000, 'must have plain values'),
        ('model = ' + '-' * 5000 + '1', r'got [^;]+; give'),
        ('model = {[]: 1}', 'must have plain values'),
        (MODEL + "model['backbone'] = 1", 'got "model.*backbone'),
        (MODEL + 'model.update(neck=1)', 'got .model.update'),
        (MODEL + 'if 1:\n    test_pipeline = []', 'got .if 1'),
        ('a = ' + MODEL, 'got .a = model'),
        (MODEL + 'model, a = {}, 1', r'got .\(?model, a'),
        ('from mmengine.config import read_base\n' + MODEL, 'got .from mmengine.config import read_base'),
    ],
)
def test_a_config_that_is_a_program_is_refused_and_not_run(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said) as caught:
        read_as_data(text, 'it')
    assert 'give it as the argument config (--config)' in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_config_is_found_in_the_checkpoint_or_next_to_it(tmp_path):
    checkpoint = tmp_path / 'a.pth'
    assert find_config(checkpoint, dict(cfg=MODEL)).model.backbone.type == 'CSPNeXt'
    (tmp_path / 'script.py').write_text(MODEL)
    with pytest.raises(ValueError, match=r'config must be given \(--config\) for .*a.pth, .* no a.py next to it'):
        find_config(checkpoint, None)
    (tmp_path / 'a.py').write_text(MODEL.replace('CSPNeXt', 'RTMCSPNeXt'))
    assert find_config(checkpoint, None).model.backbone.type == 'RTMCSPNeXt'


@pytest.mark.parametrize(
    ('name', 'config'),
    [
        ('rtmdet_s_8xb32-300e_coco_20220905_161602-387a891e.pth', 'rtmdet_s'),
        ('rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e.pth', 'rtmdet_nano_person'),
        ('rtmdet_tiny.safetensors', 'rtmdet_tiny'),
        ('rtmdet-ins_tiny_8xb32-300e_coco_20221130_151727-ec670f7e.pth', 'rtmdet_ins_tiny'),
    ],
)
def test_published_weights_have_the_config_of_their_name(name, config, tmp_path):
    assert find_config(tmp_path / name, {}) == f'rtmdet_plugin::{config}.py'


def test_a_model_from_the_checkpoint_alone(shapes_model, shapes_config, tmp_path):
    meta = dict(dataset_meta=shapes_model.dataset_meta, cfg=shapes_config().pretty_text)
    torch.save(dict(state_dict=shapes_model.state_dict(), meta=meta), tmp_path / 'a.pth')
    model = load_model(None, tmp_path / 'a.pth')
    assert model.dataset_meta == shapes_model.dataset_meta
    expected = shapes_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
