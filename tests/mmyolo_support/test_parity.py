"""mmyolo's RTMDet-tiny with our modules has the loss, the gradients and the boxes of the original."""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict

SIZE = 128


@pytest.fixture(scope='module')
def original(mmyolo_model):
    return mmyolo_model.build()


def training_batch():
    """Return images with no, one and eight objects, as `yolov5_collate` makes them."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for image, count in enumerate((0, 1, 8)):
        corner = torch.rand(count, 2, generator=generator) * 80
        sides = 10 + torch.rand(count, 2, generator=generator) * 70
        labels = torch.randint(0, 80, (count, 1), generator=generator)
        rows.append(torch.cat((torch.full((count, 1), image), labels, corner, (corner + sides).clamp(max=SIZE)), dim=1))
    images = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return dict(inputs=images, data_samples=dict(bboxes_labels=torch.cat(rows)))


def losses_and_gradients(model):
    model.train().zero_grad()
    data = model.data_preprocessor(training_batch(), training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    sum(losses.values()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return {name: loss.detach() for name, loss in losses.items()}, gradients


@pytest.fixture(scope='module')
def expected(original):
    return losses_and_gradients(copy.deepcopy(original))


@pytest.mark.parametrize(
    ('part', 'head'),
    [('backbone', False), ('neck', False), ('losses', False), ('assigner', False), ('all', False), ('all', True)],
)
def test_loss_and_gradients(mmyolo_model, original, expected, part, head):
    model = mmyolo_model.build(mmyolo_model.PARTS[part], mmyolo_model.HEAD if head else None)
    losses, gradients = losses_and_gradients(model)
    expected_losses, expected_gradients = expected
    assert expected_losses['loss_bbox'] > 0.1
    torch.testing.assert_close(losses, expected_losses, rtol=1e-5, atol=1e-5)
    names = mmyolo_model.names_in(model, original.state_dict())
    for name, gradient in expected_gradients.items():
        difference = (gradients[names[name]] - gradient).norm()
        assert difference <= 1e-3 * gradient.norm() + 1e-6, name


def letterboxed():
    """Return a sample as after `LetterResize`: an image of 300x200 pixels halved, and padded on all sides."""
    padding = np.array([14, 14, 5, 5], np.float32)
    meta = dict(img_shape=(SIZE, 160), ori_shape=(200, 300), scale_factor=(0.5, 0.5), pad_param=padding)
    return DetDataSample(metainfo=meta)


@pytest.mark.parametrize('head', [False, True])
def test_boxes(mmyolo_model, original, head):
    model = mmyolo_model.build(mmyolo_model.PARTS['all'], mmyolo_model.HEAD if head else None)
    images = torch.rand(2, 3, SIZE, 160, generator=torch.Generator().manual_seed(0)) * 4 - 2
    with torch.no_grad():
        feats = [each.eval().extract_feat(images) for each in (original, model)]
    for settings in (dict(score_thr=0.1), dict(score_thr=0.05, nms_pre=40), dict(score_thr=0.1, max_per_img=7)):
        both = []
        for each, features in zip((original, model), feats, strict=True):
            each.bbox_head.test_cfg = ConfigDict(mmyolo_model.TINY.model_test_cfg, **settings)
            with torch.no_grad():
                both.append(each.bbox_head.predict(features, [letterboxed()] * 2, rescale=True))
        for theirs, ours in zip(*both, strict=True):
            assert len(theirs) >= 7
            assert ours.labels.tolist() == theirs.labels.tolist()
            torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(ours.bboxes, theirs.bboxes, rtol=1e-4, atol=1e-3)
