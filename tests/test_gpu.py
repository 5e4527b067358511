"""On a GPU: the results of the CPU, and a loss that doesn't wait for the device. `make bench-gpu` runs these tests."""

import copy

import numpy as np
import pytest
import torch
from loss import heads, make_batch, step, synchronisation
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from nms import make_boxes, select
from samples import SHAPES_CONFIG, SHAPES_WEIGHTS

from rtmdet_plugin import RTMDetPredictor
from rtmdet_plugin.inference.device import device_type

pytestmark = pytest.mark.gpu


@pytest.fixture(scope='module')
def batch(shapes_config) -> dict:
    """A batch of the demo's data loader."""
    config = shapes_config()
    return next(
        iter(Runner.build_dataloader({**config.train_dataloader, 'num_workers': 0, 'persistent_workers': False}))
    )


def test_the_loss_is_that_of_the_cpu_and_does_not_wait_for_the_device():
    head = heads()['ours']
    assert synchronisation('ours', head, make_batch(2, 30)) == 'none'
    logits, distances, objects, metas = make_batch(2, 30)
    found = step('ours', head, logits, distances, objects, metas)
    on_cpu = [[level.detach().cpu().requires_grad_() for level in maps] for maps in (logits, distances)]
    expected = step('ours', head, *on_cpu, [instances.cpu() for instances in objects], metas)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip((*logits, *distances), (*on_cpu[0], *on_cpu[1]), strict=True):
        torch.testing.assert_close(ours.grad.cpu(), theirs.grad, rtol=1e-2, atol=1e-4)


def test_a_batch_reaches_the_device_as_it_is(shapes_config, batch):
    settings = shapes_config().model.data_preprocessor
    on_cpu, there = (
        MODELS.build(settings | dict(non_blocking=device != 'cpu')).to(device)(copy.deepcopy(batch), training=True)
        for device in ('cpu', device_type())
    )
    torch.testing.assert_close(there['inputs'].cpu(), on_cpu['inputs'])
    for a, b in zip(there['data_samples'], on_cpu['data_samples'], strict=True):
        assert a.gt_instances.bboxes.device.type == device_type()
        assert torch.equal(a.gt_instances.bboxes.cpu(), b.gt_instances.bboxes)


@pytest.mark.parametrize('amp', [False, True])
def test_two_training_steps_are_those_of_the_cpu(shapes_config, shapes_model, batch, amp):
    losses = []
    for device, half in (('cpu', False), (device_type(), amp)):
        model = copy.deepcopy(shapes_model).to(device).train()
        wrapper = dict(shapes_config().optim_wrapper, **(dict(type='AmpOptimWrapper', dtype='float16') if half else {}))
        optim_wrapper = build_optim_wrapper(model, wrapper)
        losses.append([float(model.train_step(copy.deepcopy(batch), optim_wrapper)['loss']) for _ in range(2)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05 if amp else 0.01)


@pytest.mark.parametrize('compiled', [False, True])
def test_nms_keeps_the_boxes_that_the_cpu_keeps(compiled):
    boxes, scores, labels = make_boxes(2000)
    expected = set(select(False, boxes.cpu(), scores.cpu(), labels.cpu()).tolist())
    found = set(select(compiled, boxes, scores, labels).tolist())
    assert len(found ^ expected) <= 0.01 * len(expected)  # an IoU may be rounded to the other side of the threshold


def test_float16_finds_the_same_objects(shape_images):
    exact, half = (
        RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, score_thr=0.3, device=device, precision=precision)
        for device, precision in (('cpu', 'float32'), (device_type(), 'float16'))
    )
    for image in shape_images[:4]:
        a, b = exact.predict(image), half.predict(image)
        certain = a.boxes[a.scores > 0.5]
        assert len(certain)
        assert (np.abs(certain[:, None] - b.boxes).max(2).min(1) < 2).all()
