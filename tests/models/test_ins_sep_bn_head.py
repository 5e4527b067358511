"""Head of RTMDet-Ins: the mask loss in chunks, unusual batches, masks of the right size, refused masks."""

import copy

import numpy as np
import pytest
import torch
from mmdet.models.losses import DiceLoss
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from oracle import diamond_kernel, to_mmdet

from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.models import mask_loss
from rtmdet_plugin.models.losses import RTMDiceLoss
from rtmdet_plugin.stride_masks import StrideMasks

HEAD = dict(
    type='RTMInsSepBNHead',
    num_classes=3,
    in_channels=16,
    feat_channels=16,
    norm_cfg=dict(type='BN', momentum=0.1, eps=1e-5),
    train_cfg=dict(assigner=dict(type='RTMDynamicSoftLabelAssigner', topk=13)),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100
    ),
)


STRIDES = dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32])


def build(**changes):
    torch.manual_seed(0)
    head = MODELS.build(ConfigDict(copy.deepcopy({**HEAD, **changes})))
    head.init_weights()
    return head


def feature_maps(batch=2, height=64, width=64):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, 16, height // s, width // s, generator=generator) for s in (8, 16, 32))


def objects(*boxes, size=(64, 64), convert=lambda masks: BitmapMasks(masks, *masks.shape[1:])):
    """Objects whose masks are their boxes without the right half."""
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1 : (x1 + x2) // 2] = 1
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long), masks=convert(masks))


def meta(size=(64, 64)):
    return dict(img_shape=size, pad_shape=size, img_path='street.jpg')


def losses_and_gradients(head, gts, feats=None, metas=None):
    losses = head.loss_by_feat(*head(feats or feature_maps(len(gts))), gts, metas or [meta()] * len(gts))
    head.zero_grad()
    sum(losses.values()).backward()
    return losses, {name: p.grad.clone() for name, p in head.named_parameters()}


CROWD = [[x, y, x + 24, y + 20] for x in range(0, 40, 8) for y in range(0, 40, 10)]

# -- loss -----------------------------------------------------------------------------------------------------


def test_any_number_of_positives_at_a_time_gives_the_same(monkeypatch):
    """And no more than that number is in memory."""
    head, gts = build().eval(), [objects(*CROWD), objects([4, 4, 60, 60])]
    logits, distances, kernels, prototypes = head(feature_maps())
    leaves = [torch.randn_like(level, requires_grad=True) for level in (*kernels, prototypes)]

    def loss_and_gradients():
        loss = head.loss_by_feat(logits, distances, leaves[:3], leaves[3], gts, [meta()] * 2)['loss_mask']
        return loss, *(grad / grad.abs().max() for grad in torch.autograd.grad(loss, leaves))

    expected = loss_and_gradients()
    sizes = []
    forward = RTMDiceLoss.forward
    monkeypatch.setattr(RTMDiceLoss, 'forward', lambda *args: sizes.append(len(args[1])) or forward(*args))
    for positives in (1, 7):
        sizes.clear()
        monkeypatch.setattr(mask_loss.mask_loss, '__defaults__', (positives * 16 * 16 + 1,))
        torch.testing.assert_close(loss_and_gradients(), expected, rtol=1e-5, atol=1e-5)
        assert max(sizes) == positives and sum(sizes) > 30


def test_kernels_of_some_priors():
    levels = [torch.randn(2, 5, *size) for size in ((4, 6), (2, 3), (1, 2))]
    every = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # (2, 32, 5)
    image, prior = torch.rand(2, 32).gt(0.4).nonzero(as_tuple=True)
    for chosen in (torch.randperm(len(image)), slice(0)):
        torch.testing.assert_close(
            mask_loss.kernels_at(levels, image[chosen], prior[chosen]), every[image[chosen], prior[chosen]]
        )


def test_without_objects_there_is_no_mask_loss_but_every_parameter_has_a_gradient():
    losses, gradients = losses_and_gradients(build(), [objects()] * 2)
    assert losses['loss_mask'] == 0 and losses['loss_cls'] > 0
    assert all(g is not None and g.isfinite().all() for g in gradients.values()), 'DDP waits for every parameter'
    assert not gradients['mask_head.projection.weight'].any()


def test_nothing_is_computed_for_gradients_that_nobody_wants():
    head, gts = build().eval(), [objects([4, 4, 60, 60])]
    expected, _ = losses_and_gradients(head, gts)
    with torch.no_grad():
        found = head.loss_by_feat(*head(feature_maps(1)), gts, [meta()])
    torch.testing.assert_close(found, {name: value.detach() for name, value in expected.items()})


def test_every_kind_of_masks_gives_the_same_loss():
    def polygons(masks):
        halves = [[np.array([x1, y1, (x1 + x2) / 2, y1, (x1 + x2) / 2, y2, x1, y2])] for x1, y1, x2, y2 in CROWD]
        return PolygonMasks(halves, *masks.shape[1:])

    head = build().eval()
    values = [
        losses_and_gradients(head, [objects(*CROWD, **convert)])[0]['loss_mask'].item()
        for convert in ({}, dict(convert=StrideMasks.from_full), dict(convert=polygons))
    ]
    assert values[0] > 0.1
    assert values == pytest.approx([values[0]] * 3)


def test_images_of_different_sizes_in_a_batch():
    """mmdet fails to concatenate their masks."""
    head, feats = build().eval(), feature_maps(2)
    small, large = objects([4, 4, 40, 40], size=(50, 42)), objects([4, 4, 60, 60])
    found, _ = losses_and_gradients(head, [small, large], feats, [meta() | dict(img_shape=(50, 42, 3)), meta()])
    padded = objects([4, 4, 40, 40])
    expected, _ = losses_and_gradients(head, [padded, large], feats)
    torch.testing.assert_close(found, expected)


def test_the_assigner_takes_the_centroids(monkeypatch):
    head = build()
    seen = []
    assign = head.assigner.assign_batch
    monkeypatch.setattr(head.assigner, 'assign_batch', lambda *args: seen.append(args[-1].centers) or assign(*args))
    losses_and_gradients(head, [objects([8, 8, 40, 24])])
    assert seen[0].tolist() == [[[15.5, 15.5]]]  # of the left half's pixels 8 to 23


def test_mmdets_assigner_takes_the_boxes_centres():
    losses, _ = losses_and_gradients(
        build(train_cfg=dict(assigner=dict(type='DynamicSoftLabelAssigner'))), [objects([4, 4, 60, 60])]
    )
    assert all(value.isfinite() and value > 0 for value in losses.values())


def test_autocast_gives_losses_near_the_float32_ones():
    head, gts = build(), [objects(*CROWD)]
    full, _ = losses_and_gradients(head, gts)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half, gradients = losses_and_gradients(head, gts)
    assert half['loss_mask'].dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.05, atol=0)
    assert all(g.isfinite().all() for g in gradients.values())


def test_autocast_does_not_reach_the_mask_loss_and_the_masks():
    head, gts = build().eval(), [objects(*CROWD)]
    outputs, found, masks = head(feature_maps(1)), [], []
    cfg = ConfigDict(HEAD['test_cfg'], score_thr=0.0)
    for enabled in (False, True):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            loss = head.loss_by_feat(*outputs, gts, [meta()])['loss_mask']
            masks.append(head.predict_by_feat(*outputs, [meta()], cfg=cfg)[0].masks)
        found.append((loss.detach(), *torch.autograd.grad(loss, [*outputs[2], outputs[3]], retain_graph=True)))
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert len(masks[0]) == 100 and masks[0] == masks[1]


def test_nan_arrives_as_nan():
    """The run can detect a NaN loss."""
    head, gts = build(), [objects([4, 4, 60, 60])]
    *levels, prototypes = head(feature_maps(1))
    assert head.loss_by_feat(*levels, prototypes * float('nan'), gts, [meta()])['loss_mask'].isnan()


def test_dice_loss_is_mmdets():
    logits = torch.randn(5, 12, 16, requires_grad=True)
    masks = (torch.rand(5, 12, 16) > 0.5).float()
    masks[1] = 0
    found = [RTMDiceLoss()(logits, masks), DiceLoss(loss_weight=2.0, eps=5e-6)(logits, masks, reduction_override='sum')]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*(torch.autograd.grad(value * 3, logits) for value in found), rtol=1e-5, atol=1e-8)


# -- layers ---------------------------------------------------------------------------------------------------


def test_norms_of_the_shared_tower_move_once_in_a_step():
    """In mmdet they move twice, towards the same statistics."""
    theirs = {**HEAD, 'train_cfg': None, 'stacked_convs': 2, 'anchor_generator': STRIDES}
    ours, mmdets = build(), MODELS.build(ConfigDict(to_mmdet(theirs)))
    mmdets.load_state_dict(ours.state_dict())
    ours.train(), mmdets.train()
    for head in (ours, mmdets):
        head(feature_maps())
    for name, value in ours.state_dict().items():
        if name.endswith('running_mean'):
            expected = value * 1.9 if name.startswith(('cls_convs', 'reg_convs')) else value  # 0.1 m, and 0.19 m
            torch.testing.assert_close(mmdets.state_dict()[name], expected, rtol=1e-4, atol=1e-6)


def test_first_boxes_are_of_two_strides_and_scores_of_one_percent():
    logits, distances, *_ = build().eval()(tuple(feat * 0 for feat in feature_maps()))
    assert all(level.sigmoid().mean().item() == pytest.approx(0.01, rel=0.1) for level in logits)
    assert [level.mean().item() for level in distances] == pytest.approx([8, 16, 32], rel=0.1)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(num_classes=0), 'num_classes must be at least 1, got 0'),
        (dict(loss_mask=dict(type='DiceLoss')), "loss_mask.reduction must be 'sum', got 'mean'"),
        (dict(pred_kernel_size=2), 'pred_kernel_size must be odd and positive, got 2'),
        (
            dict(anchor_generator={**STRIDES, 'strides': [6, 12]}),
            'strides must begin with a multiple of 4, got 6',
        ),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


# -- masks that can't be used ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('masks', 'message'),
    [
        (None, 'street.jpg: gt_instances.masks must be masks of the objects, got none; set with_mask=True'),
        (torch.zeros(1, 64, 64), "street.jpg: gt_instances.masks must be StrideMasks or mmdet's, got Tensor"),
        (
            BitmapMasks(np.zeros((1, 72, 64), np.uint8), 72, 64),
            r'size of the image \(height x width\), 64 x 64 pixels, which is 16 x 16 at stride 4, got 18 x 16 at',
        ),
        (BitmapMasks(np.zeros((1, 32, 64), np.uint8), 32, 64), 'got 8 x 16 at stride 4; resize masks and image alike'),
    ],
)
def test_masks_that_are_refused(masks, message):
    gt = objects([4, 4, 60, 60])
    del gt.masks
    if masks is not None:
        gt.masks = masks
    with pytest.raises(RefusedError, match=message):
        losses_and_gradients(build(), [gt])


# -- predicted masks ------------------------------------------------------------------------------------------


def predict(head, input_size, **metainfo):
    """Predict one diamond at (320, 128) with a radius of 48 pixels of the input, of stride 16."""
    feats = feature_maps(1, *input_size)
    logits, distances, kernels, prototypes = (
        [torch.zeros_like(level) for level in part] if isinstance(part, tuple) else part for part in head(feats)
    )
    for level in logits:
        level.fill_(-9)
    at = (0, slice(None), 8, 20)
    logits[1][at] = torch.tensor([-9.0, 9.0, -9.0])
    distances[1][at] = 48
    kernels[1][at] = diamond_kernel(48 / (8 * 16))
    maps = (logits, distances, kernels, prototypes)
    with torch.no_grad():
        return head.predict_by_feat(*maps, batch_img_metas=[metainfo], rescale='ori_shape' in metainfo)


@pytest.mark.parametrize(
    ('input_size', 'img_shape', 'ori_shape'),
    [
        ((448, 640), (427, 640), (1365, 2048)),  # for which mmdet's masks have a width of 2046
        ((448, 640), (427, 640), (107, 160)),
        ((640, 640), (640, 640), (300, 1280)),  # resized without keeping the ratio
    ],
)
def test_masks_have_the_size_of_the_image_and_lie_in_their_boxes(input_size, img_shape, ori_shape):
    scale = (img_shape[1] / ori_shape[1], img_shape[0] / ori_shape[0])
    (result,) = predict(build().eval(), input_size, img_shape=img_shape, ori_shape=ori_shape, scale_factor=scale)
    assert result.labels.tolist() == [1]
    (mask,) = result.masks.numpy()
    assert mask.shape == ori_shape
    y, x = (torch.arange(n) for n in ori_shape)
    # The logits of a cell are those at its upper left corner; mmdet interpolates as if at its centre, 4 px further.
    offset = ((x + 0.5) * scale[0] - 324).abs() + ((y + 0.5) * scale[1] - 132).abs()[:, None]
    assert mask[offset < 44].all() and not mask[offset > 52].any()
    x1, y1, x2, y2 = result.bboxes[0].tolist()
    assert (x1, y1, x2, y2) == pytest.approx((272 / scale[0], 80 / scale[1], 368 / scale[0], 176 / scale[1]))


def test_mmdet_swaps_the_factors_of_width_and_height():
    coder = dict(type='DistancePointBBoxCoder')
    theirs = {**HEAD, 'train_cfg': None, 'stacked_convs': 2, 'anchor_generator': STRIDES, 'bbox_coder': coder}
    head = MODELS.build(ConfigDict(to_mmdet(theirs))).eval()
    shapes = dict(img_shape=(427, 640), ori_shape=(1365, 2048), scale_factor=(640 / 2048, 427 / 1365))
    head.test_cfg.mask_thr_binary = 0.5
    assert predict(head, (448, 640), **shapes)[0].masks.shape == (1, 1365, 2046)


def test_a_threshold_that_no_score_is_above():
    with pytest.raises(ValueError, match='mask_thr_binary must be between 0 and 1, got 1'):
        build().predict_masks(*[None] * 3, dict(img_shape=(8, 8)), dict(mask_thr_binary=1), rescale=False)


def test_masks_in_the_input_have_the_size_without_padding():
    (result,) = predict(build().eval(), (448, 640), img_shape=(427, 640))
    assert result.masks[0]['size'] == [427, 640]
    assert {'bboxes', 'scores', 'labels', 'masks'} == set(result.keys())


def test_no_object_gives_no_masks():
    head = build().eval()
    with torch.no_grad():
        (result,) = head.predict_by_feat(
            *head(feature_maps(1)), [meta()], cfg=ConfigDict(HEAD['test_cfg'], score_thr=1)
        )
    assert len(result) == 0 and result.masks.numpy().shape == (0, 64, 64)


def test_many_instances_are_decoded_in_parts(monkeypatch):
    head = build().eval()
    with torch.no_grad():
        for layer in head.rtm_cls:
            layer.bias.zero_()
        for layer in head.rtm_kernel:
            layer.weight.normal_(std=0.1)
            layer.bias.copy_(diamond_kernel(0.3))
        outputs = head(feature_maps(1))
        (expected,) = head.predict_by_feat(*outputs, [meta()])
        monkeypatch.setattr('rtmdet_plugin.models.ins_sep_bn_head.MAX_CELLS', 3 * 64)
        (found,) = head.predict_by_feat(*outputs, [meta()])
    assert len(found.masks) > 10
    assert found.masks == expected.masks
