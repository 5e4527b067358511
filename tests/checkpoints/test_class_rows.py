"""Class layers follow the names of the classes, from a checkpoint to a model with others."""

import logging
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import BaseLoop

from rtmdet_plugin.checkpoints.class_rows import classes_in, rows_of
from rtmdet_plugin.checkpoints.mmyolo_keys import rename
from rtmdet_plugin.engine.hooks import RTMKeepClassesHook

CONFIGS = Path(__file__).parents[2] / 'configs'
KNOWN = ('person', 'Cat', 'dog')


def model_of(num_classes, size='nano'):
    cfg = Config.fromfile(CONFIGS / f'rtmdet_{size}.py').model
    cfg.bbox_head.num_classes = num_classes
    return MODELS.build(cfg).eval()


@pytest.fixture(scope='module')
def trained():
    torch.manual_seed(0)
    model = model_of(len(KNOWN))
    for parameter in model.bbox_head.rtm_cls.parameters():
        torch.nn.init.normal_(parameter)
    return model


def load(model, checkpoint, classes, caplog, resume=False):
    """Load as mmengine does: first the hook, then the tensors that fit."""
    loop = Mock(BaseLoop, dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes))))
    loops = dict(_train_loop=loop, _val_loop={}, _test_loop={}, _resume=resume)
    runner = SimpleNamespace(model=model, logger=logging.getLogger('keep_classes'), **loops)
    with caplog.at_level(logging.INFO, logger='keep_classes'):
        RTMKeepClassesHook().after_load_checkpoint(runner, checkpoint)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    weights = {name: value for name, value in checkpoint['state_dict'].items() if shapes.get(name) == value.shape}
    model.load_state_dict(weights, strict=False)


def checkpoint_of(model, classes=KNOWN):
    return dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(CLASSES=classes)))


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_known_classes_keep_their_scores_and_others_start_anew(trained, prefix, caplog):
    model = model_of(4)
    checkpoint = checkpoint_of(trained)
    checkpoint['state_dict'] = {prefix + name: value for name, value in checkpoint['state_dict'].items()}
    initial = {name: value.clone() for name, value in model.bbox_head.rtm_cls.state_dict().items()}
    load(model, checkpoint, ('dog', 'fish', 'cat', 'bird'), caplog)
    checkpoint['state_dict'] = {name.removeprefix(prefix): v for name, v in checkpoint['state_dict'].items()}
    model.load_state_dict(checkpoint['state_dict'])
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(model(image)[0], trained(image)[0], strict=True):
            assert torch.equal(found[:, [0, 2]], expected[:, [2, 1]])
    for name, value in model.bbox_head.rtm_cls.state_dict().items():
        assert torch.equal(value[[1, 3]], initial[name][[1, 3]])
    assert 'the class layers of 2 of 4 classes, which the weights detect: dog, cat.' in caplog.text


def test_weights_of_mmyolo(trained, caplog):
    checkpoint = checkpoint_of(trained)
    checkpoint['state_dict'] = rename(checkpoint['state_dict'], 'mmyolo')
    load(model_of(1), checkpoint, ('dog',), caplog)
    name = 'bbox_head.head_module.rtm_cls.0.weight'
    assert torch.equal(checkpoint['state_dict'][name], trained.bbox_head.rtm_cls[0].weight[2:])


@pytest.mark.parametrize(
    ('classes', 'known', 'resume'),
    [
        (('dog', 'cat', 'fish'), KNOWN, True),
        (('fish', 'bird', 'bee'), KNOWN, False),
        (('dog', 'cat', 'fish'), (), False),
    ],
)
def test_weights_stay_as_they_are(classes, known, resume, trained, caplog):
    checkpoint = checkpoint_of(trained, known)
    before = dict(checkpoint['state_dict'])
    load(model_of(3), checkpoint, classes, caplog, resume)
    assert all(checkpoint['state_dict'][name] is value for name, value in before.items()) and not caplog.text


def test_weights_of_another_size_are_left_to_the_report(trained, caplog):
    checkpoint = checkpoint_of(trained)
    load(model_of(2, 'tiny'), checkpoint, ('dog', 'cat'), caplog)
    assert torch.equal(checkpoint['state_dict']['bbox_head.rtm_cls.0.bias'], trained.bbox_head.rtm_cls[0].bias[[2, 1]])
    weight = checkpoint['state_dict']['bbox_head.rtm_cls.0.weight']
    assert weight is not None and len(weight) == 3


def test_recorded_classes_that_are_not_those_of_the_layer_change_nothing(trained, caplog):
    checkpoint = checkpoint_of(trained, (*KNOWN, 'fish', 'bee'))
    before = dict(checkpoint['state_dict'])
    load(model_of(2), checkpoint, ('bee', 'cat'), caplog)
    assert all(checkpoint['state_dict'][name] is value for name, value in before.items()) and not caplog.text


def test_names_in_checkpoints_of_any_kind():
    assert classes_in(dict(meta=dict(dataset_meta=dict(classes='cat')))) == ('cat',)
    assert classes_in(dict(meta=dict(dataset_meta=dict(CLASSES=['a', 'b'])))) == ('a', 'b')
    for content in (None, {}, dict(meta=None), dict(meta=dict(dataset_meta=None)), dict(meta=dict(dataset_meta={}))):
        assert classes_in(content) == ()
    assert rows_of(['Dog', 'fish'], KNOWN) == [2, None]
