"""Measure training steps of RTMDet-Ins-tiny, ours next to mmdet's: time and peak memory by the number of objects.

    python benchmarks/mask_step.py [--busy-cores 0 1]

4 images of 640 px, random weights. A step is that of train_step.py: forward, assignment, losses, backward, optimiser,
averaged weights. Each side gets the masks that its own pipeline packs: ours at stride 4, mmdet's as polygons, which its
head draws. Writes benchmarks/results/mask_step_<device>_<machine>.json.
"""

import math
from collections.abc import Callable

import torch
from harness import arguments, peak_memory
from masks import SIZE, make_objects, measure
from mmdet.structures.mask import PolygonMasks
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from results import report
from torch import Tensor
from train_step import BATCH, Trainer

from rtmdet_plugin.stride_masks import StrideMasks


def ellipses(boxes: Tensor) -> PolygonMasks:
    """Return polygons of 48 corners, the ellipses within boxes (n, 4), xyxy."""
    angle = torch.arange(48) * (2 * math.pi / 48)
    center, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    corners = center[:, None] + radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)  # (n, 48, 2)
    return PolygonMasks([[outline] for outline in corners.flatten(1).double().numpy()], SIZE, SIZE)


def steps(number: int) -> dict[str, Callable[[], None]]:
    """Return a training step of each side on images with this number of objects."""
    configs = dict(
        ours=Config.fromfile('configs/rtmdet_ins_tiny.py'),
        mmdet=get_config('mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py'),
    )
    trainers = {side: Trainer(config, image=SIZE) for side, config in configs.items()}
    for k in range(BATCH):
        boxes, _ = make_objects(number, k)
        labels = torch.randint(0, 80, (number,), generator=torch.Generator().manual_seed(k))
        polygons = ellipses(boxes)
        for side, masks in dict(ours=StrideMasks.from_full(polygons.to_ndarray()), mmdet=polygons).items():
            sample = trainers[side].data['data_samples'][k]
            sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=masks)
    return {side: trainer.step for side, trainer in trainers.items()}


def main() -> None:
    """Measure, print and write."""
    args = arguments(__doc__).parse_args()
    init_default_scope('mmdet')
    MMLogger.get_instance('benchmark').setLevel('ERROR')
    rows = []
    for number in [2] if args.quick else [10, 100]:
        what = f'training step, {BATCH} x {number} objects'
        rows += measure(what, steps(number), peak_memory, args.busy_cores, 1 if args.quick else 3)
    report('mask_step', rows, [name for name in rows[0] if not name.endswith((' min', ' max'))], not args.quick)


if __name__ == '__main__':
    main()
