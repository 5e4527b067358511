"""Measure the mask loss and the post-processing of masks of RTMDet-Ins, ours next to mmdet's: time and peak memory.

    python benchmarks/masks.py [--busy-cores 0 1]

Loss: from prototypes and kernels at 640 px to the gradients on them, by the number of positives; and the complete loss
of a batch of 4 images, by the number of objects. Post-processing: 100 instances after the NMS, to masks of the image's
size in run-length encoding, which evaluation needs; 'mmdet to arrays' has no encoding. mmdet isn't measured if it
would take more than 8 GB. Writes benchmarks/results/masks_<device>_<machine>.json.
"""

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from harness import arguments, busy_cores, costs, milliseconds, peak_memory, peak_resident
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, encode_mask_results
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from results import DEVICE, report
from torch import Tensor, nn

import rtmdet_plugin  # noqa: F401  registers the head
from rtmdet_plugin.models.ins_sep_bn_head import select_boxes
from rtmdet_plugin.models.mask_loss import mask_loss
from rtmdet_plugin.stride_masks import StrideMasks

SIZE, STRIDES = 640, (8, 16, 32)
COMMON = dict(
    num_classes=80,
    in_channels=96,
    feat_channels=96,
    stacked_convs=2,
    anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=list(STRIDES)),
    bbox_coder=dict(type='DistancePointBBoxCoder'),
)
TEST_CFG = ConfigDict(
    nms_pre=1000,
    min_bbox_size=0,
    score_thr=0.05,
    nms=dict(type='nms', iou_threshold=0.6),
    max_per_img=100,
    mask_thr_binary=0.5,
)


def heads() -> dict[str, nn.Module]:
    """Build the heads to compare."""
    init_default_scope('mmdet')
    ours = dict(type='RTMInsSepBNHead', train_cfg=dict(assigner=dict(type='RTMDynamicSoftLabelAssigner')), **COMMON)
    mmdets = dict(
        type='RTMDetInsSepBNHead',
        train_cfg=dict(assigner=dict(type='DynamicSoftLabelAssigner', topk=13), allowed_border=-1, pos_weight=-1),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_mask=dict(type='DiceLoss', loss_weight=2.0, eps=5e-6, reduction='mean'),
        **COMMON,
    )
    return {
        name: MODELS.build(ConfigDict(cfg, test_cfg=TEST_CFG)) for name, cfg in dict(ours=ours, mmdet=mmdets).items()
    }


def make_objects(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Make boxes (number, 4), xyxy, of 20 to 140 px, and masks (number, 640, 640), the ellipses within them."""
    generator = torch.Generator().manual_seed(seed)
    radius = 10 + torch.rand(number, 2, generator=generator) * 60
    center = radius + torch.rand(number, 2, generator=generator) * (SIZE - 2 * radius)
    axis = torch.arange(SIZE)
    x, y = (((axis - center[:, k, None]) / radius[:, k, None]).square() for k in range(2))  # (number, 640)
    return torch.cat([center - radius, center + radius], dim=1), x[:, None] + y[:, :, None] < 1


def loss_candidates(found: dict[str, nn.Module], positives: int) -> dict[str, Callable[[], float]]:
    """Return one step of the mask loss of each head, with ten positives for each object."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
    priors = torch.cat(found['ours'].prior_generator.grid_priors(sizes, device=DEVICE, with_stride=True))
    _, full = make_objects(max(1, positives // 10), 0)
    prior = torch.randperm(len(priors), generator=generator)[:positives].sort().values.to(DEVICE)
    index = torch.randint(0, len(full), (positives,), generator=generator).to(DEVICE)
    gt_index = torch.full((1, len(priors)), -1, device=DEVICE)
    gt_index[0, prior] = index
    prototypes = torch.randn(1, 8, *sizes[0], generator=generator).to(DEVICE).requires_grad_()
    kernels = (torch.randn(1, len(priors), 169, generator=generator) * 0.3).to(DEVICE).requires_grad_()

    masks = [StrideMasks.from_full(full.numpy()).to(DEVICE)]
    sampled = SimpleNamespace(pos_priors=priors[prior], pos_inds=prior, pos_assigned_gt_inds=index)
    objects = InstanceData(masks=full.to(DEVICE))

    def ours() -> Tensor:
        level = kernels.transpose(1, 2)[..., None]  # one for all priors, (1, 169, N, 1)
        total, number = mask_loss(prototypes, [level], priors, gt_index, masks, STRIDES[0], found['ours'].loss_mask)
        return total / number

    def mmdets() -> Tensor:
        return found['mmdet'].loss_mask_by_feat(prototypes, kernels, [sampled], [objects])

    def step(loss: Callable[[], Tensor]) -> float:
        prototypes.grad = kernels.grad = None
        value = loss()
        value.backward()
        return value.item()

    return {'mmdet': partial(step, mmdets), 'ours': partial(step, ours)}


def complete_loss(head: nn.Module, batch: int, number: int) -> Callable[[], float]:
    """Return one step of assignment and all losses, from the outputs of a head; masks are bitmaps, as mmdet needs."""
    generator = torch.Generator().manual_seed(0)
    sides = [SIZE // stride for stride in STRIDES]
    maps = [
        [torch.randn(batch, 80, n, n, generator=generator) - 2 for n in sides],
        [torch.rand(batch, 4, n, n, generator=generator) * 4 * s for n, s in zip(sides, STRIDES, strict=True)],
        [torch.randn(batch, 169, n, n, generator=generator) * 0.3 for n in sides],
    ]
    *levels, (prototypes,) = [
        [m.to(DEVICE).requires_grad_() for m in part]
        for part in [*maps, [torch.randn(batch, 8, sides[0], sides[0], generator=generator)]]
    ]
    metas = [dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))] * batch
    made = [make_objects(number, k) for k in range(batch)]
    labels = torch.randint(0, 80, (number,), generator=generator).to(DEVICE)
    strided = head.__class__.__name__ == 'RTMInsSepBNHead'

    def step() -> float:
        objects = [
            InstanceData(
                bboxes=boxes.to(DEVICE),
                labels=labels,
                masks=stride_masks if strided else BitmapMasks(full.numpy(), SIZE, SIZE),
            )
            for (boxes, full), stride_masks in zip(made, at_stride, strict=True)
        ]
        losses = head.loss_by_feat(*levels, prototypes, objects, metas)
        value = sum(sum(v) if isinstance(v, list) else v for v in losses.values())
        value.backward()
        return value.item()

    at_stride = [StrideMasks.from_full(full.numpy()) for _, full in made]
    return step


def prediction_candidates(found: dict[str, nn.Module], height: int, width: int) -> dict[str, Callable[[], object]]:
    """Return the post-processing of 100 instances with masks of 20 to 300 px of the input."""
    generator = torch.Generator().manual_seed(0)
    scale = SIZE / max(height, width)
    input_size = [32 * math.ceil(side * scale / 32) for side in (height, width)]
    prototypes = torch.randn(8, *(side // STRIDES[0] for side in input_size), generator=generator).to(DEVICE)
    radius = 10 + torch.rand(100, generator=generator) * 140
    points = torch.rand(100, 2, generator=generator) * torch.tensor([width * scale, height * scale])
    priors = torch.cat([points, torch.full((100, 2), 16.0)], dim=1).to(DEVICE)
    # A mask is where |x| + |y| is less than the radius, in units of 8 strides, with the weights of 4 of 8 channels.
    first, third = torch.zeros(8, 10), torch.zeros(8)
    first[:4, :2] = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    third[:4] = -1
    kernel = torch.cat([first.flatten(), torch.eye(8).flatten(), third, torch.zeros(17)])
    kernels = kernel.repeat(100, 1)
    kernels[:, -1] = radius / (8 * 16)
    kernels = kernels.to(DEVICE)
    boxes = torch.cat([points - radius[:, None], points + radius[:, None]], dim=1).to(DEVICE)
    meta = dict(ori_shape=(height, width), img_shape=tuple(input_size), scale_factor=(scale, scale))

    def instances() -> InstanceData:
        scores, labels = torch.linspace(0.9, 0.1, 100, device=DEVICE), torch.arange(100, device=DEVICE) % 80
        return InstanceData(bboxes=boxes.clone(), scores=scores, labels=labels, kernels=kernels, priors=priors)

    @torch.no_grad()
    def mmdet_arrays() -> Tensor:
        return found['mmdet']._bbox_mask_post_process(instances(), prototypes, TEST_CFG, True, True, meta).masks

    @torch.no_grad()
    def ours() -> list:
        kept = select_boxes(instances(), meta, TEST_CFG, rescale=True)
        return found['ours'].predict_masks(prototypes, kept.kernels, kept.priors, meta, TEST_CFG, rescale=True)

    candidates = {'ours': ours}
    if 2 * 4 * 100 * height * width < 8e9:  # it holds two float tensors of all masks
        candidates['mmdet to arrays'] = mmdet_arrays
        candidates['mmdet'] = lambda: encode_mask_results(mmdet_arrays().cpu().numpy())
    return candidates


def measure(what: str, candidates: dict[str, Callable], memory: Callable, busy: list[int], repeats: int) -> list[dict]:
    """Return a row for each condition."""
    held = {name: memory(candidate) for name, candidate in candidates.items()}
    rows = []
    for count in busy:
        with busy_cores(count) as condition:
            taken = costs(candidates, repeats)
        row = dict(condition=condition, what=what)
        for name in ('mmdet', 'ours'):
            row |= milliseconds(taken[name], f'{name} ') if name in taken else {f'{name} ms': 'not measured'}
            row[f'{name} MB'] = held.get(name, 'not measured')
        if 'mmdet to arrays' in taken:
            row |= milliseconds(taken['mmdet to arrays'], 'mmdet to arrays ')
        for title, part in (('times faster', 'ms'), ('times faster, CPU time', 'CPU ms'), ('times less MB', 'MB')):
            row[title] = row[f'mmdet {part}'] / row[f'ours {part}'] if 'mmdet' in taken else 'not measured'
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    """Measure, print and write."""
    args = arguments(__doc__).parse_args()
    found, rows = heads(), []
    for positives in [10] if args.quick else [80, 800]:
        candidates = loss_candidates(found, positives)
        rows += measure(f'mask loss, {positives} positives', candidates, peak_memory, args.busy_cores, 5)
    for batch, number in [(1, 2)] if args.quick else [(4, 25), (4, 100)]:
        names = ['ours', *['mmdet'] * (batch * number <= 100)]
        candidates = {name: complete_loss(found[name], batch, number) for name in names}
        rows += measure(f'all losses, {batch} x {number} objects', candidates, peak_memory, args.busy_cores, 3)
    for height, width in [(120, 160)] if args.quick else [(480, 640), (1080, 1920), (3000, 4000)]:
        candidates = prediction_candidates(found, height, width)
        rows += measure(f'100 masks of {height} x {width}', candidates, peak_resident, args.busy_cores, 5)
    report('masks', rows, [name for name in rows[0] if not name.endswith((' min', ' max'))], not args.quick)


if __name__ == '__main__':
    main()
