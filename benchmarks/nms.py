"""Measure NMS within each class, on the device that has the boxes by torchvision, or by NumPy after a copy to the host.

    python benchmarks/nms.py

torchvision is measured if it is installed; `mmcv.ops.batched_nms` then uses it (rtmdet_plugin/compat/nms.py). 30,000
boxes is `nms_pre` of the evaluation. Writes benchmarks/results/nms_<device>_<machine>.json.
"""

from functools import partial
from unittest.mock import patch

import torch
from harness import arguments, busy_cores, costs, milliseconds
from results import DEVICE, report
from torch import Tensor

from rtmdet_plugin.compat import nms as stand_in  # before mmcv.ops, which it makes importable

COUNTS = (100, 1000, 30_000)


def make_boxes(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes (N, 4), xyxy in pixels, around 200 centres; scores (N,) and labels (N,) of 80 classes."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(200, 2, generator=generator) * 640
    chosen = torch.randint(0, 200, (count,), generator=generator)
    centre = centres[chosen] + torch.randn(count, 2, generator=generator) * 4
    half = 10 + 40 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat((centre - half, centre + half), dim=1)
    return boxes.to(DEVICE), torch.rand(count, generator=generator).to(DEVICE), (chosen % 80).to(DEVICE)


def select(compiled: bool, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Return the indices of the kept boxes, with torchvision or without it."""
    from mmcv.ops import batched_nms

    settings = dict(type='nms', iou_threshold=0.65)
    if compiled:
        return batched_nms(boxes, scores, labels, settings)[1]
    with patch.object(stand_in, '_torchvision_nms', return_value=None):
        return batched_nms(boxes, scores, labels, settings)[1]


def main() -> None:
    parser = arguments(__doc__)
    args = parser.parse_args()
    ways = {'NumPy': False} | ({'torchvision': True} if stand_in._torchvision_nms() else {})
    rows = []
    for boxes in COUNTS[:1] if args.quick else COUNTS:
        inputs = make_boxes(boxes)
        candidates = {name: partial(select, compiled, *inputs) for name, compiled in ways.items()}
        for count in args.busy_cores:
            with busy_cores(count) as condition:
                taken = costs(candidates, 1 if args.quick else 20)
            for name, measured in taken.items():
                kept = len(candidates[name]())
                rows.append(dict(condition=condition, boxes=boxes, kept=kept, by=name, **milliseconds(measured)))
    report('nms', rows, save=not args.quick)


if __name__ == '__main__':
    main()
