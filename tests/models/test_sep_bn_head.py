"""Head: shared layers, loss of unusual batches, post-processing settings, invalid settings."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from oracle import to_mmdet

NORM = dict(type='BN', momentum=0.1, eps=1e-5)
HEAD = dict(
    type='RTMSepBNHead',
    num_classes=3,
    in_channels=16,
    feat_channels=16,
    norm_cfg=NORM,
    train_cfg=dict(assigner=dict(type='RTMDynamicSoftLabelAssigner', topk=13), allowed_border=-1, pos_weight=-1),
    test_cfg=dict(
        nms_pre=30000, min_bbox_size=0, score_thr=0.001, nms=dict(type='nms', iou_threshold=0.65), max_per_img=300
    ),
)
MMDET_ONLY = dict(
    anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
    bbox_coder=dict(type='DistancePointBBoxCoder'),
    with_objectness=False,
    act_cfg=dict(type='SiLU', inplace=True),
    loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
    loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
)


def build(**changes):
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(copy.deepcopy({**HEAD, **changes})))


def feature_maps(batch=2, size=64, channels=16):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, channels, size // s, size // s, generator=generator) for s in (8, 16, 32))


def gt(boxes, labels=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long) if labels is None else labels)


def meta(size=64, pad=None):
    return dict(img_shape=(size, size), pad_shape=(pad, pad) if pad is not None else (size, size))


# -- sharing --------------------------------------------------------------------------------------------------


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_sep_bn_shares_convolutions_but_not_norms():
    head = build()
    for branch in (head.cls_convs, head.reg_convs):
        assert branch[0][1].conv is branch[2][1].conv
        assert branch[0][1].bn is not branch[2][1].bn
    assert head.cls_convs[0][0].conv is not head.reg_convs[0][0].conv


def test_separated_and_fully_shared():
    separated, sep_bn, shared = build(share_conv=False), build(), build(share_norm=True)
    convs, norms = 4 * 16 * 16 * 9, 4 * 2 * 16  # two branches of two layers
    assert num_parameters(separated) - num_parameters(sep_bn) == 2 * convs
    assert num_parameters(sep_bn) - num_parameters(shared) == 2 * norms
    assert shared.cls_convs[0][1].norm is shared.cls_convs[2][1].norm


def test_exp_on_reg_keeps_distances_positive():
    feats = feature_maps()
    with torch.no_grad():
        for stride, log, linear in zip((8, 16, 32), build(exp_on_reg=True)(feats)[1], build()(feats)[1], strict=True):
            torch.testing.assert_close(log, (linear / stride).exp() * stride)


def test_initial_scores_are_one_percent():
    head = build()
    head.init_weights()
    for layer in head.rtm_cls:
        assert layer.bias.sigmoid().tolist() == pytest.approx([0.01] * 3)


# -- loss -----------------------------------------------------------------------------------------------------


def losses_and_gradients(head, gts, metas, feats=None):
    feats = feats or feature_maps(len(gts))
    losses = head.loss_by_feat(*head(feats), gts, metas)
    head.zero_grad()
    sum(losses.values()).backward()
    return losses, [p.grad for p in head.parameters()]


def test_no_valid_prior_is_a_zero_loss_that_back_propagates():
    """In this case mmdet fails, because it unpacks seven targets into six names."""
    head = build()
    gts, metas = [gt([[4, 4, 40, 40]])] * 2, [meta(pad=0)] * 2
    losses, gradients = losses_and_gradients(head, gts, metas)
    assert losses['loss_cls'].item() == losses['loss_bbox'].item() == 0
    assert all(g is not None and (g == 0).all() for g in gradients)

    theirs = to_mmdet({**HEAD, **MMDET_ONLY, 'share_conv': True})
    theirs = MODELS.build(ConfigDict(theirs))
    with pytest.raises(ValueError, match='too many values to unpack'):
        theirs.loss_by_feat(*theirs(feature_maps()), gts, metas)


def test_one_image_without_a_valid_prior_does_not_disturb_the_other():
    head = build().eval()
    feats = feature_maps()
    gts = [gt([[4, 4, 40, 40]])] * 2
    both, _ = losses_and_gradients(head, gts, [meta(), meta(pad=0)], feats)
    single, _ = losses_and_gradients(head, gts[:1], [meta()], tuple(f[:1] for f in feats))
    for name, value in both.items():
        torch.testing.assert_close(value, single[name])


def test_no_ground_truth_trains_the_background():
    head = build()
    losses, gradients = losses_and_gradients(head, [gt([])] * 2, [meta()] * 2)
    assert losses['loss_cls'] > 0
    assert losses['loss_bbox'] == 0
    assert all(g is not None and g.isfinite().all() for g in gradients), 'DDP waits for every parameter'


def test_priors_beyond_the_padded_image_take_no_part():
    head = build().eval()
    feats = feature_maps(1)
    full, _ = losses_and_gradients(head, [gt([])], [meta()], feats)
    half, _ = losses_and_gradients(head, [gt([])], [meta(pad=32)], feats)
    # a quarter of the cells of each level: 16 + 4 + 1 of 64 + 16 + 4, all with scores near 0.5
    assert 0.15 < (half['loss_cls'] / full['loss_cls']).item() < 0.35


@pytest.mark.parametrize(
    ('objects', 'message'),
    [
        (gt([[4, 4, 40, float('nan')]]), r'street\.jpg: boxes must be finite, got \[4\.0, 4\.0, 40\.0, nan\]'),
        (
            gt([[4, 4, 40, 40]], torch.tensor([3])),
            r'street\.jpg: labels must lie in 0\.\.2 \(num_classes=3\), got \[3\]',
        ),
        (gt([[4, 4, 40, 40]], torch.tensor([-1])), r'got \[-1\]'),
        (InstanceData(bboxes=torch.empty(1, 4, device='meta'), labels=torch.zeros(1)), 'must be on .* cpu, got meta'),
    ],
)
def test_ground_truth_that_would_be_assigned_wrong_is_refused(objects, message):
    metas = [meta(), dict(meta(), img_path='street.jpg')]
    with pytest.raises(ValueError, match=message):
        losses_and_gradients(build(), [gt([[4, 4, 40, 40]]), objects], metas)


@pytest.mark.parametrize('dense', [False, True])
def test_predictions_that_are_nan_arrive_as_nan(monkeypatch, dense):
    """The run can detect a NaN loss; with a loss of 0 it would continue training."""
    if dense:
        monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    head = build(exp_on_reg=True)
    objects, metas = [gt([[4, 4, 40, 40]])], [meta()]
    logits, distances = head(feature_maps(1))
    assert head.loss_by_feat([x * float('nan') for x in logits], distances, objects, metas)['loss_cls'].isnan()
    assert head.loss_by_feat(logits, [x * float('nan') for x in distances], objects, metas)['loss_bbox'].isnan()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_gives_finite_losses_near_the_float32_ones(dtype):
    head = build(exp_on_reg=True)
    gts = [gt([[4, 4, 40, 40], [10, 10, 30, 60]]), gt([[0, 0, 64, 64]])]
    full, _ = losses_and_gradients(head, gts, [meta()] * 2)
    with torch.autocast('cpu', dtype=dtype):
        half, gradients = losses_and_gradients(head, gts, [meta()] * 2)
    for name, value in half.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, full[name], rtol=0.05, atol=0)
    assert all(g.isfinite().all() for g in gradients)


def test_distances_stay_float32_under_autocast():
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits, distances = build()(feature_maps())
    assert {x.dtype for x in logits} == {torch.bfloat16}
    assert {x.dtype for x in distances} == {torch.float32}


def test_crowded_images_with_duplicates():
    head = build()
    boxes = [[x, y, x + 12, y + 12] for x in range(0, 52, 2) for y in range(0, 52, 4)]
    losses, gradients = losses_and_gradients(head, [gt(boxes + boxes)] * 2, [meta()] * 2)
    assert all(v.isfinite() for v in losses.values())
    assert all(g.isfinite().all() for g in gradients)


ASSIGNERS = [
    dict(type='RTMSimOTAAssigner'),
    dict(type='RTMTaskAlignedAssigner'),
    dict(type='RTMATSSAssigner', topk=9),
    dict(type='DynamicSoftLabelAssigner'),
]


@pytest.mark.parametrize('assigner', ASSIGNERS, ids=lambda cfg: cfg['type'])
def test_other_assigners_serve_in_the_same_head(assigner):
    head = build(train_cfg=dict(assigner=assigner), exp_on_reg=True)
    losses, _ = losses_and_gradients(head, [gt([[4, 4, 40, 40]]), gt([[10, 10, 60, 60]])], [meta()] * 2)
    assert all(v.isfinite() and v > 0 for v in losses.values())


# -- boxes ----------------------------------------------------------------------------------------------------


def predict(head, test_cfg=None, img_shape=(64, 64), rescale=False):
    feats = feature_maps(1)
    metas = [dict(img_shape=img_shape, scale_factor=(0.5, 0.5))]
    cfg = ConfigDict({**head.test_cfg, **(test_cfg or {})})
    with torch.no_grad():
        return head.eval().predict_by_feat(*head(feats), batch_img_metas=metas, cfg=cfg, rescale=rescale)[0]


def test_post_processing_settings_are_followed():
    head = build(exp_on_reg=True)
    default = predict(head)
    assert len(default.bboxes) > 20
    assert len(predict(head, dict(max_per_img=5)).bboxes) == 5
    threshold = default.scores.median().item()
    strict = predict(head, dict(score_thr=threshold))
    assert 0 < len(strict.bboxes) < len(default.bboxes)
    assert strict.scores.min() > threshold
    assert len(predict(head, dict(nms_pre=4)).bboxes) <= 3 * 4, 'nms_pre counts a level'
    loose = predict(head, dict(nms=dict(type='nms', iou_threshold=0.1)))
    assert len(loose.bboxes) < len(default.bboxes)
    sides = (default.bboxes[:, 2:] - default.bboxes[:, :2]).min(dim=1).values
    large = predict(head, dict(min_bbox_size=sides.median().item()))
    assert len(large.bboxes) < len(default.bboxes)
    torch.testing.assert_close(predict(head, rescale=True).bboxes, default.bboxes * 2)
    assert predict(head, img_shape=(40, 50)).bboxes[:, 2].max() <= 50


# -- bad settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (dict(num_classes=0), 'num_classes must be at least 1, got 0'),
        (dict(pred_kernel_size=2), 'pred_kernel_size must be odd and positive, got 2'),
        (dict(with_objectness=True), 'no objectness branch'),
        (dict(share_conv=False, share_norm=True), 'share_norm=True needs share_conv=True'),
        (dict(use_depthwise=True), 'use_depthwise=True needs share_conv=False'),
    ],
)
def test_bad_settings(bad, message):
    with pytest.raises(ValueError, match=message):
        build(**bad)


def test_a_neck_of_another_width_is_named():
    with pytest.raises(ValueError, match=r'3 feature maps of 16 channels.*got \[24, 24, 24\]'):
        build()(feature_maps(channels=24))
    with pytest.raises(ValueError, match=r'got \[16, 16\]'):
        build()(feature_maps()[:2])
