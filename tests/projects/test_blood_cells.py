"""Fine-tuning on blood cells: what its weights give, and that its data and config agree."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import load_checkpoint

from rtmdet_plugin.checkpoints.comparison import compare
from rtmdet_plugin.engine.hooks import RTMUnfoldNormHook

CONFIG = Path(__file__).resolve().parents[2] / 'projects' / 'blood_cells' / 'rtmdet_nano_blood_cells.py'


@pytest.fixture
def config(data_root, weights_root, monkeypatch):
    monkeypatch.setenv('RTMDET_DATA', str(data_root))
    monkeypatch.setenv('RTMDET_WEIGHTS', str(weights_root))
    init_default_scope('mmdet')
    return Config.fromfile(CONFIG)


@pytest.mark.parametrize('ending', ['', '/'])
def test_folders_with_and_without_a_slash_at_the_end(monkeypatch, ending):
    monkeypatch.setenv('RTMDET_DATA', 'there/data' + ending)
    monkeypatch.setenv('RTMDET_WEIGHTS', 'there/weights' + ending)
    config = Config.fromfile(CONFIG)
    assert config.load_from == 'there/weights/rtmdet_nano_person.pth'
    assert config.train_dataloader.dataset.data_root == 'there/data/bccd/'
    assert config.val_evaluator.ann_file == 'there/data/bccd/annotations/val.json'


def test_classes_are_those_of_the_annotation_file(config, data_root):
    dataset = DATASETS.build(config.train_dataloader.dataset)
    categories = json.loads((data_root / 'bccd/annotations/train.json').read_text())['categories']
    assert list(dataset.metainfo['classes']) == [category['name'] for category in categories]
    assert config.model.bbox_head.num_classes == len(categories)
    assert len(dataset) == 205


def test_only_the_class_convolutions_are_not_loaded(config):
    model = MODELS.build(config.model)
    report = compare(model.state_dict(), torch.load(config.load_from, weights_only=True)['state_dict'])
    assert sorted(report.other_shape) == [
        f'bbox_head.rtm_cls.{n}.{kind}' for n in range(3) for kind in ('bias', 'weight')
    ]
    assert report.other_shape['bbox_head.rtm_cls.0.weight'] == ((1, 64, 1, 1), (3, 64, 1, 1))
    assert not report.missing and not report.unexpected


def test_trap_folded_norms_mangle_the_network_in_training_unless_unfolded(config):
    """Box distances on real images: in training as in evaluation once unfolded, far off before."""
    config.model.bbox_head.num_classes = 1
    model = MODELS.build(config.model)
    load_checkpoint(model, config.load_from)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    inputs = [dataset[n]['inputs'] for n in range(8)]
    batch = dict(inputs=inputs, data_samples=[dataset[n]['data_samples'] for n in range(8)])

    def distances(mode: bool):
        model.train(mode)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            _, boxes = model(**model.data_preprocessor(dict(batch), False), mode='tensor')
        model.load_state_dict(state)
        return boxes[0]

    evaluated, mangled = distances(False), distances(True)
    loop = SimpleNamespace(dataloader=[batch])
    runner = SimpleNamespace(model=model, train_loop=loop, logger=MMLogger.get_current_instance())
    RTMUnfoldNormHook().before_train(runner)
    assert (distances(False) - evaluated).abs().max() < 1e-2
    assert (distances(True) - evaluated).abs().mean() < 0.02 * (mangled - evaluated).abs().mean()


def test_tiny_is_the_size_tiny(monkeypatch):
    monkeypatch.setenv('RTMDET_DATA', 'data')
    ours = Config.fromfile(CONFIG.with_name('rtmdet_tiny_blood_cells.py'))
    tiny = Config.fromfile(CONFIG.parents[2] / 'configs' / 'rtmdet_tiny.py').model
    tiny.backbone.init_cfg = None
    tiny.bbox_head.num_classes = 3
    init_default_scope('mmdet')
    shapes = [
        {name: value.shape for name, value in MODELS.build(model).state_dict().items()} for model in (ours.model, tiny)
    ]
    assert shapes[0] == shapes[1]
    assert ours.load_from is None
