"""Measure the training data's path to the device: decoding, both mixing steps, collation, transfer and normalisation.

    python benchmarks/data_to_device.py [--workers 8]

Stage 1 of RTMDet-s, batches of 16, ours and mmdet's in turns, with and without pinned memory; then ours with transfers
that the host doesn't wait for (`non_blocking`). Images are those of RTMDET_DATA, or generated ones of 640x480. Writes
benchmarks/results/data_to_device_<device>_<machine>.json.
"""

import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from data_pipeline import DATA, SIDES, build_loader, generate, prepare, run_loader
from harness import arguments, busy_cores
from mmdet.registry import MODELS
from mmengine.config import Config
from results import DEVICE, report

from rtmdet_plugin.inference.benchmark import in_turns
from rtmdet_runtime.cpu_cores import available_cores

VARIANTS = [(side, pinned, False) for side in SIDES for pinned in (False, True)] + [('ours', True, True)]
"""Side, whether memory is pinned, and whether transfers are non-blocking."""


def images_per_second(
    side: str, pinned: bool, non_blocking: bool, root: Path, workers: int, batches: int
) -> tuple[float, float]:
    """Return images per second on the device, and seconds to the first batch."""
    settings = Config.fromfile(SIDES[side]).model.data_preprocessor
    preprocessor = MODELS.build(settings | dict(non_blocking=non_blocking)).to(DEVICE)
    loader = build_loader(side, root, workers, pin_memory=pinned)
    return run_loader(loader, batches, use=lambda batch: preprocessor(batch, training=True))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--workers', type=int, default=max(1, min(8, available_cores() - 1)))
    args = parser.parse_args()
    prepare()
    batches, rounds = (1, 1) if args.quick else (60, 2)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = DATA
        if not root.is_dir():
            root = Path(folder) / 'images'
            generate(root, 640, 480)
        settings = dict(root=root, workers=args.workers, batches=batches)
        candidates = {variant: partial(images_per_second, *variant, **settings) for variant in VARIANTS}
        for count in args.busy_cores:
            with busy_cores(count) as condition:
                runs = in_turns(candidates, rounds)
            for (side, pinned, non_blocking), measured in runs.items():
                rates, firsts = zip(*measured, strict=True)
                row = dict(condition=condition, side=side, pinned=pinned, non_blocking=non_blocking)
                row |= dict(workers=args.workers, data='generated' if root != DATA else 'coco_tiny')
                row |= {'images/s': median(rates), 'min': min(rates), 'max': max(rates)}
                rows.append(row | {'first batch s': median(firsts)})
    report('data_to_device', rows, save=not args.quick)


if __name__ == '__main__':
    main()
