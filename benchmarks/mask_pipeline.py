"""Measure the training data pipelines with masks next to mmdet's: time per image, memory, size of the packed masks.

    python benchmarks/mask_pipeline.py            # about three minutes
    python benchmarks/mask_pipeline.py --quick    # check that it runs

Both pipelines are those of RTMDet-Ins-s, on the 50 images of coco_tiny's train2017 in RTMDET_DATA, in turns in one
process and on one thread. mmdet packs polygons, and its head draws them at full resolution in the training process;
`mmdet, drawn` includes that step, which ours does in the pipeline. Writes mask_pipeline_<device>_<machine>.json to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median

os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch
from data_pipeline import DATA, MMDETS, STAGES, WARM_UP, check_data, dataset_config, prepare
from harness import Cost, Parts, arguments, compare, milliseconds, resident_mb
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from results import report

from rtmdet_plugin import find_step
from rtmdet_plugin.inference.benchmark import in_turns

MMDETS_INS = MMDETS.with_name('rtmdet-ins_s_8xb32-300e_coco.py')
BASE = Path(__file__).parents[1] / 'configs' / '_base_' / 'coco_instance.py'


def our_pipelines() -> Config:
    """Return the base config with the scale jitter of size s."""
    config = Config.fromfile(BASE)
    find_step(config.train_pipeline, 'RTMCachedMosaicResizeCrop').ratio_range = (0.5, 2.0)
    find_step(config.train_pipeline_stage2, 'RTMRandomResizeCrop').ratio_range = (0.5, 2.0)
    return config


def mmdets_pipelines() -> Config:
    """Return mmdet's config, with its usual loader of annotations."""
    return Config.fromfile(MMDETS_INS)


def drawn(packed: dict) -> torch.Tensor:
    """Draw the masks of a sample as mmdet's head does."""
    return packed['data_samples'].gt_instances.masks.to_tensor(dtype=torch.bool, device='cpu')


CANDIDATES: dict[str, tuple[Callable[[], Config], Callable[[dict], object]]] = {
    'mmdet': (mmdets_pipelines, id),
    'mmdet, drawn': (mmdets_pipelines, drawn),
    'ours': (our_pipelines, id),
}


class Samples:
    """Samples of a pipeline.

    Args:
        name: one of `CANDIDATES`.
        stage: one of `STAGES`.
        root: folder of the dataset.
    """

    def __init__(self, name: str, stage: str, root: Path) -> None:
        config, self.use = CANDIDATES[name]
        self.steps = [TRANSFORMS.build(step) for step in config()[STAGES[stage]]]
        dataset = DATASETS.build(dataset_config(root, []))
        self.infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        self.place = 0

    def next(self) -> dict:
        """Return the next sample that isn't rejected."""
        while True:
            results = self.infos[self.place % len(self.infos)]
            # mmdet's loader changes the annotations
            results = dict(results, instances=[dict(instance) for instance in results['instances']])
            self.place += 1
            for step in self.steps:
                results = step(results)
                if results is None:
                    break
            else:
                return results

    def run(self, images: int) -> Cost:
        """Return the cost of some samples."""
        parts = Parts()
        with parts.part('run'):
            for _ in range(images):
                self.use(self.next())
        return parts['run']


def measure(stage: str, root: Path, rounds: int, images: int) -> list[dict]:
    """Return a row per candidate."""
    samples = {name: Samples(name, stage, root) for name in CANDIDATES}
    for each in samples.values():
        each.run(WARM_UP)
    runs = in_turns({name: partial(each.run, images) for name, each in samples.items()}, rounds)
    per_image = {name: [Cost(c.wall / images, c.cpu / images) for c in costs] for name, costs in runs.items()}
    rows = []
    for name, costs in per_image.items():
        packed = [samples[name].next() for _ in range(20)]
        ratios = compare([cost.cpu for cost in costs], [cost.cpu for cost in per_image['ours']])
        rows.append(
            dict(
                stage=stage,
                pipeline=name,
                **milliseconds(costs),
                **{'CPU, times ours': ratios['ratio'], 'range': ratios['ratio_range']},
                **{'objects per image': mean(len(item['data_samples'].gt_instances) for item in packed)},
                **{'masks, MiB per image': median(mask_mib(item, name) for item in packed)},
                **({'peak MiB': peak_of(name, root)} if stage == 'stage 1' else {}),
            )
        )
    return rows


def mask_mib(packed: dict, name: str) -> float:
    """Return the size of what the loss gets of a sample: mmdet's head draws the masks before it samples them."""
    masks = packed['data_samples'].gt_instances.masks
    return (masks.pixels.nbytes if name == 'ours' else drawn(packed).nbytes) / 2**20


def peak_of(name: str, root: Path) -> float:
    """Return by how many MiB stage 1 increases the peak memory of a new process until its caches are full."""
    command = [sys.executable, __file__, '--memory-of', name, '--data', str(root)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--data', type=Path, default=DATA, help='folder with train2017 and annotations')
    parser.add_argument('--memory-of', choices=CANDIDATES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    prepare()
    check_data(args.data)
    if args.memory_of:
        samples = Samples(args.memory_of, 'stage 1', args.data)
        before = resident_mb()
        samples.run(WARM_UP + 20)
        print(json.dumps(resident_mb() - before))
        return
    size = dict(rounds=2, images=5) if args.quick else dict(rounds=7, images=40)
    rows = [row for stage in STAGES for row in measure(stage, args.data, **size)]
    columns = [key for key in rows[0] if key != 'range']
    report('mask_pipeline', rows, columns, save=not args.quick)


if __name__ == '__main__':
    main()
