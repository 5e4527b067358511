"""Measure mosaic and MixUp as single steps, with and without a cache, next to mmdet's.

    python benchmarks/mixing.py

Images are the 50 of coco_tiny's train2017 in RTMDET_DATA, 640 px. Figures are CPU time per image, with the loading of
the other images if there is no cache: medians and ranges over rounds in turns. Writes
benchmarks/results/mixing_<device>_<machine>.json.
"""

from functools import partial
from pathlib import Path
from statistics import median

from data_pipeline import DATA, WARM_UP, check_data, dataset_config, prepare
from harness import Parts, arguments, busy_cores, compare
from mmdet.registry import DATASETS, TRANSFORMS
from results import report
from torch.utils.data import Dataset

from rtmdet_plugin.inference.benchmark import in_turns

MOSAIC = dict(img_scale=(640, 640), pad_val=114.0)
MIXUP = dict(img_scale=(640, 640), ratio_range=(1.0, 1.0), pad_val=(114, 114, 114))
STEPS = {
    'mosaic': {
        'mmdet, no cache': dict(type='Mosaic', **MOSAIC),
        'mmdet': dict(type='CachedMosaic', **MOSAIC),
        'ours': dict(type='RTMCachedMosaic', **MOSAIC),
    },
    'MixUp': {
        'mmdet, no cache': dict(type='MixUp', **MIXUP),
        'mmdet': dict(type='CachedMixUp', **MIXUP),
        'ours': dict(type='RTMCachedMixUp', **MIXUP),
    },
}
"""Steps of the paper's comparison. Ours always have a cache."""


class Mixing:
    """A step that mixes images; without a cache, it loads the other images as mmdet's MultiImageMixDataset does."""

    def __init__(self, config: dict, dataset: Dataset) -> None:
        self.step = TRANSFORMS.build(config)
        self.dataset = dataset
        self.loads = 'Cached' not in config['type']

    def run(self, images: int) -> float:
        """Return the milliseconds of CPU time per image, with the loading of the other images if there is no cache."""
        parts = Parts()
        for i in range(images):
            results = self.dataset[i % len(self.dataset)]
            with parts.part('step'):
                if self.loads:
                    indexes = self.step.get_indexes(self.dataset)
                    others = indexes if isinstance(indexes, list) else [indexes]
                    results['mix_results'] = [self.dataset[j] for j in others]
                self.step(results)
        return 1e3 * parts['step'].cpu / images


def time_cache(root: Path, rounds: int, images: int) -> list[dict]:
    """Return a row for each step; the images are loaded by mmdet."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
    dataset = DATASETS.build(dataset_config(root, load) | dict(type='CocoDataset'))
    rows = []
    for name, configs in STEPS.items():
        steps = {side: Mixing(config, dataset) for side, config in configs.items()}
        for step in steps.values():
            step.run(WARM_UP)
        runs = in_turns({side: partial(step.run, images) for side, step in steps.items()}, rounds)
        for side, times in runs.items():
            ratio = compare(runs['mmdet, no cache'], times)
            rows.append(dict(step=name, side=side, **{'CPU ms': median(times)}, **ratio))
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--data', type=Path, default=DATA, help='folder with train2017 and annotations')
    args = parser.parse_args()
    check_data(args.data)
    prepare()
    rows = []
    for count in args.busy_cores:
        with busy_cores(count) as condition:
            found = time_cache(args.data, 2 if args.quick else 9, 5 if args.quick else 25)
        rows += [dict(condition=condition, **row) for row in found]
    report('mixing', rows, save=not args.quick)


if __name__ == '__main__':
    main()
