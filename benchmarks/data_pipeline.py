"""Measure the training data pipeline next to mmdet's: time by step, images per second, worker memory, first batch.

    python benchmarks/data_pipeline.py            # about four minutes on two cores
    python benchmarks/data_pipeline.py --quick    # a tenth of it, to check that it runs
    python benchmarks/data_pipeline.py --busy-cores 0 1    # also next to a process that uses a core

Images are the 50 of coco_tiny's train2017 in RTMDET_DATA, and generated ones for memory. Both pipelines run in turn, in
the same process, on one thread; figures are medians over rounds. Writes data_pipeline_<device>_<machine>.json and .md
to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

os.environ.setdefault('OMP_NUM_THREADS', '1')

import cv2
import mmdet
import numpy as np
import torch
from harness import Cost, Parts, arguments, busy_cores, compare, resident_mb
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from results import result_file, write_rows
from torch.utils.data import DataLoader

import rtmdet_plugin  # noqa: F401  registers the modules
from rtmdet_plugin.datasets.seeded_fetch import fetch_by_place
from rtmdet_plugin.doctor.machine import cpu_name
from rtmdet_plugin.inference.benchmark import in_turns

OURS = Path(__file__).parents[1] / 'configs' / 'rtmdet_s.py'
MMDETS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet' / 'rtmdet_s_8xb32-300e_coco.py'
SIDES = {'mmdet': MMDETS, 'ours': OURS}
DATA = Path(os.environ.get('RTMDET_DATA', 'data')) / 'coco_tiny'
STAGES = {'stage 1': 'train_pipeline', 'stage 2': 'train_pipeline_stage2'}
WARM_UP = 60
"""Number of samples until both caches are full."""
BATCH = 16
"""Batch size of the data loaders."""


def pipeline_of(side: str, stage: str) -> list[dict]:
    return Config.fromfile(SIDES[side])[STAGES[stage]]


def dataset_config(root: Path, pipeline: list[dict]) -> dict:
    return dict(
        type='RTMCocoDataset',
        data_root=str(root),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=pipeline,
    )


class Pipeline:
    """A pipeline whose steps are timed."""

    def __init__(self, config: list[dict], infos: list[dict]) -> None:
        self.steps = [TRANSFORMS.build(step) for step in config]
        self.infos = infos
        self.place = 0

    def run(self, images: int) -> dict[str, Cost]:
        """Return the cost of some images, by step and as `total`; that of rejected samples is included."""
        parts, made = Parts(), 0
        with parts.part('total'):
            while made < images:
                results = dict(self.infos[self.place % len(self.infos)])
                self.place += 1
                for step in self.steps:
                    with parts.part(type(step).__name__):
                        results = step(results)
                    if results is None:
                        break
                else:
                    made += 1
        return parts


def lower_bound(infos: list[dict]) -> dict[str, Cost]:
    """Read and decode images, with one pass over an output of 640x640: a lower bound for any pipeline."""
    parts = Parts()
    with parts.part('total'):
        for info in infos:
            img = cv2.imdecode(np.fromfile(info['img_path'], np.uint8), cv2.IMREAD_COLOR)
            out = cv2.resize(img, (640, 640), interpolation=cv2.INTER_LINEAR)
            planes = np.empty((3, 640, 640), np.uint8)
            cv2.split(out, list(planes))
    return parts


def per_image(runs: list[dict[str, Cost]], name: str, images: int, clock: str = 'wall') -> list[float]:
    """Return the milliseconds of a part per image in each run; `clock` is `wall` or `cpu`."""
    return [1e3 * getattr(run[name], clock) / images for run in runs]


def time_steps(root: Path, rounds: int, images: int, configs: dict[str, Config] | None = None) -> dict:
    """Measure the pipelines of the stages.

    Args:
        root: folder of the dataset.
        rounds: number of measurements.
        images: number of images in each.
        configs: configs of `mmdet` and `ours`; by default, those of RTMDet-s.
    """
    configs = configs or {side: Config.fromfile(path) for side, path in SIDES.items()}
    infos = DATASETS.build(dataset_config(root, []))
    infos = [infos.get_data_info(i) for i in range(len(infos))]
    result = {}
    for stage, variable in STAGES.items():
        pipelines = {side: Pipeline(config[variable], infos) for side, config in configs.items()}
        for pipeline in pipelines.values():
            pipeline.run(WARM_UP)
        candidates = {side: partial(pipeline.run, images) for side, pipeline in pipelines.items()}
        runs = in_turns(candidates | {'floor': partial(lower_bound, infos)}, rounds)
        floor = per_image(runs.pop('floor'), 'total', len(infos))
        wall = {side: per_image(side_runs, 'total', images) for side, side_runs in runs.items()}
        cpu = {side: per_image(side_runs, 'total', images, 'cpu') for side, side_runs in runs.items()}
        result[stage] = dict(
            **compare(wall['mmdet'], wall['ours']),
            cpu_ratio=compare(cpu['mmdet'], cpu['ours'])['ratio'],
            floor_ms=median(floor),
            **{
                side: dict(
                    ms=median(wall[side]),
                    ms_range=[min(wall[side]), max(wall[side])],
                    cpu_ms=median(cpu[side]),
                    steps={
                        name: median(per_image(side_runs, name, images)) for name in side_runs[0] if name != 'total'
                    },
                )
                for side, side_runs in runs.items()
            },
        )
    return result


def build_loader(side: str, root: Path, workers: int, **settings) -> DataLoader:
    """Return the data loader of stage 1."""
    shipped = Config.fromfile(SIDES[side]).train_dataloader
    # Repeated, so that one epoch is longer than the measurement.
    dataset = dict(type='RepeatDataset', times=1000, dataset=dataset_config(root, pipeline_of(side, 'stage 1')))
    config = dict(
        batch_size=BATCH,
        num_workers=workers,
        persistent_workers=True,
        collate_fn=shipped.get('collate_fn', dict(type='pseudo_collate')),
        sampler=shipped.sampler,
        dataset=dataset,
        **settings,
    )
    loader = Runner.build_dataloader(config, seed=0)
    if side == 'ours':
        fetch_by_place(loader.dataset)  # as the training loop does
    return loader


def run_loader(loader: DataLoader, batches: int, use: Callable[[dict], object] = id) -> tuple[float, float]:
    """Return images per second, and seconds to the first batch, of a new loader.

    Args:
        loader: as `build_loader` returns it.
        batches: number of measured batches, after those that fill the caches.
        use: function that is called with each batch.
    """
    parts = Parts()
    with parts.part('first'):
        source = iter(loader)
        use(next(source))
    for _ in range(WARM_UP * loader.num_workers // BATCH):
        use(next(source))
    with parts.part('batches'):
        for _ in range(batches):
            use(next(source))
    source._shutdown_workers()
    return BATCH * batches / parts['batches'].wall, parts['first'].wall


def time_loader(root: Path, workers: int, rounds: int, batches: int) -> dict:
    """Measure both sides with `run_loader`."""
    runs = in_turns(
        {side: lambda side=side: run_loader(build_loader(side, root, workers), batches) for side in SIDES}, rounds
    )
    rates, firsts = ({side: [run[i] for run in runs[side]] for side in SIDES} for i in range(2))
    return dict(
        **compare(rates['ours'], rates['mmdet']),
        **{
            side: dict(
                images_per_s=median(rates[side]),
                images_per_s_range=[min(rates[side]), max(rates[side])],
                first_batch_s=median(firsts[side]),
            )
            for side in SIDES
        },
    )


def generate(root: Path, width: int, height: int) -> None:
    """Write twelve images of noise and rectangles as a COCO dataset."""
    rng = np.random.default_rng(0)
    (root / 'train2017').mkdir(parents=True)
    (root / 'annotations').mkdir()
    images, annotations = [], []
    for i in range(12):
        img = cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (width, height))
        images.append(dict(id=i, file_name=f'{i}.jpg', width=width, height=height))
        for _ in range(8):
            w, h = (int(side * rng.uniform(0.1, 0.4)) for side in (width, height))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            img[y : y + h, x : x + w] = rng.integers(0, 256, 3)
            box = dict(bbox=[x, y, w, h], area=w * h, iscrowd=0, category_id=1)
            annotations.append(dict(id=len(annotations) + 1, image_id=i, **box))
        cv2.imwrite(str(root / 'train2017' / f'{i}.jpg'), img)
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='rectangle')])
    (root / 'annotations' / 'instances_train2017.json').write_text(json.dumps(content))


def memory_of(side: str, root: Path) -> dict:
    """Return the peak memory in MiB of this process after it filled the caches; run it in a separate process."""
    dataset = DATASETS.build(dataset_config(root, pipeline_of(side, 'stage 1')))
    before = resident_mb()
    for i in range(WARM_UP + 20):
        dataset[i % len(dataset)]
    peak = resident_mb()
    return dict(start_mib=before, peak_mib=peak, data_mib=peak - before)


def measure_memory(width: int, height: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / 'images', width, height)
        result = {}
        for side in SIDES:
            command = [sys.executable, __file__, '--memory-of', side, '--data', str(Path(folder) / 'images')]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            result[side] = json.loads(output.splitlines()[-1])
    result['peak_ratio'] = result['mmdet']['peak_mib'] / result['ours']['peak_mib']
    result['data_ratio'] = result['mmdet']['data_mib'] / result['ours']['data_mib']
    return result


def table(result: dict) -> str:
    """Return the figures in a condition as Markdown."""
    lines = [
        f'{cpu_name()}, one thread, {result["condition"]}.',
        '',
        '| RTMDet-s, 640 px | mmdet | ours | ratio |',
        '| --- | --- | --- | --- |',
    ]
    for stage in STAGES:
        figures = result['steps'][stage]
        ours, theirs = figures['ours'], figures['mmdet']
        ratio = f'{figures["ratio"]:.1f} ({" to ".join(f"{value:.1f}" for value in figures["ratio_range"])})'
        lines.append(f'| {stage}, ms per image | {theirs["ms"]:.1f} | {ours["ms"]:.1f} | {ratio} |')
        lines.append(f'| floor: decode and one pass over the output, ms | | {figures["floor_ms"]:.1f} | |')
    for workers, figures in result['loader'].items():
        ours, theirs = figures['ours'], figures['mmdet']
        name = f'{workers} worker{"s" if workers != "1" else ""}'
        rates = f'{theirs["images_per_s"]:.0f} | {ours["images_per_s"]:.0f}'
        lines.append(f'| stage 1, {name}, images/s | {rates} | {figures["ratio"]:.1f} |')
        lines.append(
            f'| first batch of 16, {name}, s | {theirs["first_batch_s"]:.2f} | {ours["first_batch_s"]:.2f} | |'
        )
    for size, figures in result.get('memory', {}).items():
        ours, theirs = figures['ours'], figures['mmdet']
        for key, name in (('peak', 'peak memory of a worker'), ('data', 'of that, without the imports')):
            values = f'{theirs[key + "_mib"]:.0f} | {ours[key + "_mib"]:.0f}'
            lines.append(f'| {size}: {name}, MiB | {values} | {figures[key + "_ratio"]:.1f} |')
    for stage in STAGES:
        lines += ['', f'| {stage} | ms per image |', '| --- | --- |']
        for side in SIDES:
            for name, value in result['steps'][stage][side]['steps'].items():
                lines.append(f'| {side}: {name} | {value:.2f} |')
    return '\n'.join(lines) + '\n'


def measure(root: Path, condition: str, quick: bool) -> dict:
    """Return the figures in a condition."""
    loader = dict(rounds=1, batches=3) if quick else dict(rounds=3, batches=30)
    row = dict(condition=condition, steps=time_steps(root, 2 if quick else 9, 20 if quick else 100))
    row['loader'] = {str(workers): time_loader(root, workers, **loader) for workers in (1, 2)}
    if condition == 'idle':  # memory doesn't depend on it
        row['memory'] = {f'{w}x{h} images': measure_memory(w, h) for w, h in ((640, 480), (4000, 3000))}
    return row


def check_data(root: Path) -> None:
    """End the script if there is no dataset."""
    if not (root / 'annotations').is_dir():
        sys.exit(f'--data must have a folder annotations, got {root}; set RTMDET_DATA to the folder of coco_tiny.')


def prepare() -> None:
    """Use one thread, the same random numbers in each run, and mmdet's modules."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    set_random_seed(0)
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='ERROR')


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--data', type=Path, default=DATA, help='folder with train2017 and annotations')
    parser.add_argument('--memory-of', choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    prepare()
    if args.memory_of:
        print(json.dumps(memory_of(args.memory_of, args.data)))
        return
    check_data(args.data)

    rows = []
    for count in args.busy_cores:
        with busy_cores(count) as condition:
            rows.append(measure(args.data, condition, args.quick))
        print(table(rows[-1]))
    if not args.quick:
        write_rows('data_pipeline', rows)
        result_file('data_pipeline', '.md').write_text('\n'.join(map(table, rows)))


if __name__ == '__main__':
    main()
