"""The plugin against mmdet itself: state dict, outputs, losses, gradients, boxes, for each size."""

from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import Runner
from oracle import SIZES, build_pair, random_gt

from rtmdet_plugin.models.dense_head import flatten_levels

CONFIGS = Path(__file__).parents[1] / 'configs'
SIZE = 96  # pixels: 12, 6 and 3 cells


@pytest.fixture(
    scope='module',
    params=[pytest.param(size, marks=pytest.mark.slow) if size == 'x' else size for size in SIZES],
)
def pair(request):
    return build_pair(request.param)


def total(losses: dict) -> dict:
    """Sum losses: mmdet's are lists over the levels, ours are one tensor."""
    return {name: sum(value) if isinstance(value, list | tuple) else value for name, value in losses.items()}


def samples(gts, size=SIZE):
    metainfo = dict(img_shape=(size, size), pad_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0))
    return [DetDataSample(gt_instances=gt, metainfo=metainfo) for gt in gts]


def test_state_dicts_are_the_same_key_for_key_in_both_directions(pair):
    ours, mmdets = pair
    a, b = ours.state_dict(), mmdets.state_dict()
    assert list(a) == list(b)
    assert [v.shape for v in a.values()] == [v.shape for v in b.values()]
    mmdets.load_state_dict(a, strict=True)
    ours.load_state_dict(b, strict=True)


def test_outputs(pair):
    ours, mmdets = (model.eval() for model in pair)
    x = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        for a, b in zip(ours(x), mmdets(x), strict=True):  # logits, distances
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            assert all(level.std() > 0.01 for level in a), 'constant outputs prove nothing'


def test_losses_and_gradients(pair):
    ours, mmdets = (model.train() for model in pair)
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    data_samples = samples(random_gt(torch.Generator().manual_seed(2), 2, SIZE))
    results = []
    for model in (ours, mmdets):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        model.zero_grad()
        losses = total(model(x, data_samples, mode='loss'))
        sum(losses.values()).backward()
        results.append((losses, {name: p.grad for name, p in model.named_parameters()}))
        model.load_state_dict(before)  # the statistics of the batch norms have changed
    (losses, grads), (expected_losses, expected_grads) = results
    assert losses.keys() == expected_losses.keys() == {'loss_cls', 'loss_bbox'}
    for name, expected in expected_losses.items():
        assert expected > 0.01, 'no loss proves nothing'
        torch.testing.assert_close(losses[name], expected, rtol=2e-4, atol=0)
    # each gradient on the scale of its largest entry; assert_close names the parameter that differs
    scales = {name: grad.abs().max() + 1e-8 for name, grad in expected_grads.items()}
    grads, expected_grads = ({k: v / scales[k] for k, v in g.items()} for g in (grads, expected_grads))
    torch.testing.assert_close(grads, expected_grads, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('rescale', [False, True])
def test_boxes_after_nms(pair, rescale):
    ours, mmdets = (model.eval() for model in pair)
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    metainfo = dict(img_shape=(SIZE, 72), ori_shape=(192, 144), scale_factor=(0.5, 0.5), pad_shape=(SIZE, SIZE))
    results = []
    for model in (ours, mmdets):
        data_samples = [DetDataSample(metainfo=metainfo) for _ in range(2)]
        with torch.no_grad():
            results.append(model.bbox_head.predict(model.extract_feat(x), data_samples, rescale=rescale))
    for a, b in zip(*results, strict=True):
        assert len(b.bboxes) > 10, 'too few boxes to compare'
        assert len(a.bboxes) == len(b.bboxes)
        torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-4)
        # neighbouring priors can have the same score to the last bit but one, so boxes are compared as a set
        rows = [torch.cat((r.bboxes, 1000 * r.labels[:, None], 100 * r.scores[:, None]), dim=1) for r in (a, b)]
        distance = torch.cdist(*rows, p=float('inf'), compute_mode='donot_use_mm_for_euclid_dist')
        assert distance.min(dim=0).values.max() < 1e-2
        assert distance.min(dim=1).values.max() < 1e-2


def test_priors_sit_at_cell_corners_and_distances_are_in_cells():
    ours, _ = build_pair('s')
    head = ours.bbox_head.eval()
    priors = torch.cat(head.prior_generator.grid_priors([(2, 3), (1, 1), (1, 1)], device='cpu', with_stride=True))
    assert priors[0].tolist() == [0, 0, 8, 8]
    assert priors[1].tolist() == [8, 0, 8, 8]
    assert priors[3].tolist() == [0, 8, 8, 8]
    with torch.no_grad():
        for layer in head.rtm_reg:
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        feats = [torch.zeros(1, 128, 4, 4), torch.zeros(1, 128, 2, 2), torch.zeros(1, 128, 1, 1)]
        _, distances = head(feats)
    for stride, level in zip((8, 16, 32), distances, strict=True):
        assert flatten_levels([level])[0, 0].tolist() == [stride, 2 * stride, 3 * stride, 4 * stride]


@pytest.mark.parametrize(('size', 'exp_on_reg'), dict(nano=False, tiny=False, s=False, m=True, l=True, x=True).items())
def test_exp_on_reg_and_batch_norm_of_each_config(size, exp_on_reg):
    model = Config.fromfile(CONFIGS / f'rtmdet_{size}.py').model
    assert model.bbox_head.exp_on_reg is exp_on_reg
    for part in (model.backbone, model.neck, model.bbox_head):
        assert (part.norm_cfg.type, part.norm_cfg.eps, part.norm_cfg.momentum) == ('BN', 1e-5, 0.1)


def test_the_published_person_weights_reach_their_ap(data_root, weights_root, tmp_path, monkeypatch):
    """AP 0.264, AP50 0.503 and AP75 0.254 on the 50 images, as measured with mmdet's modules."""
    monkeypatch.setenv('RTMDET_COCO', str(data_root / 'coco_tiny') + '/')
    cfg = Config.fromfile(CONFIGS / 'rtmdet_nano_person.py')
    cfg.merge_from_dict(
        {
            'work_dir': str(tmp_path),
            'load_from': str(weights_root / 'rtmdet_nano_person.pth'),
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
            'model.test_cfg.nms.iou_threshold': 0.6,
            'model.test_cfg.score_thr': 0.001,
            'model.test_cfg.max_per_img': 300,
        }
    )
    metrics = Runner.from_cfg(cfg).test()
    assert metrics['coco/bbox_mAP'] == pytest.approx(0.264, abs=0.001)
    assert metrics['coco/bbox_mAP_50'] == pytest.approx(0.503, abs=0.001)
    assert metrics['coco/bbox_mAP_75'] == pytest.approx(0.254, abs=0.001)
    assert metrics['coco/bbox_mAP_s'] == pytest.approx(0.160, abs=0.001)
