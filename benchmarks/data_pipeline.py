"""Measure the training data pipeline next to mmdet's: time by step, images per second, worker memory, first batch.

    python benchmarks/data_pipeline.py            # about four minutes on two cores
    python benchmarks/data_pipeline.py --quick    # a tenth of it, to check that it runs
    python benchmarks/data_pipeline.py --only cache    # only mosaic and MixUp, with and without a cache

Images are the 50 of coco_tiny's train2017 in RTMDET_DATA, and generated ones for memory. Both pipelines run in turn, in
the same process, on one thread; figures are medians over rounds. Writes data_pipeline.json and data_pipeline.md to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median

os.environ.setdefault('OMP_NUM_THREADS', '1')

import cv2
import mmdet
import numpy as np
import torch
from harness import RESULTS
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch.utils.data import Dataset

import rtmdet_plugin  # noqa: F401  registers the modules
from rtmdet_plugin.datasets.seeded_fetch import fetch_by_place
from rtmdet_plugin.inference.benchmark import in_turns

OURS = Path(__file__).parents[1] / 'configs' / 'rtmdet_s.py'
MMDETS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet' / 'rtmdet_s_8xb32-300e_coco.py'
SIDES = {'mmdet': MMDETS, 'ours': OURS}
STAGES = {'stage 1': 'train_pipeline', 'stage 2': 'train_pipeline_stage2'}
WARM_UP = 60
"""Number of samples until both caches are full."""
_MOSAIC = dict(img_scale=(640, 640), pad_val=114.0)
_MIXUP = dict(img_scale=(640, 640), ratio_range=(1.0, 1.0), pad_val=(114, 114, 114))
MIXING = {
    'mosaic': {
        'mmdet, no cache': dict(type='Mosaic', **_MOSAIC),
        'mmdet': dict(type='CachedMosaic', **_MOSAIC),
        'ours': dict(type='RTMCachedMosaic', **_MOSAIC),
    },
    'MixUp': {
        'mmdet, no cache': dict(type='MixUp', **_MIXUP),
        'mmdet': dict(type='CachedMixUp', **_MIXUP),
        'ours': dict(type='RTMCachedMixUp', **_MIXUP),
    },
}
"""Steps of the paper's comparison. Ours always have a cache."""


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

    def run(self, images: int) -> tuple[float, dict[str, float]]:
        """Return milliseconds per image, in total and by step; the time of rejected samples is included."""
        spent, made = defaultdict(float), 0
        start = time.perf_counter()
        while made < images:
            results = dict(self.infos[self.place % len(self.infos)])
            self.place += 1
            for step in self.steps:
                begin = time.perf_counter()
                results = step(results)
                spent[type(step).__name__] += time.perf_counter() - begin
                if results is None:
                    break
            else:
                made += 1
        total = time.perf_counter() - start
        return 1e3 * total / images, {name: 1e3 * value / images for name, value in spent.items()}


def floor_ms(infos: list[dict]) -> float:
    """Measure reading and decoding an image plus one pass over an output of 640x640: a lower bound for any pipeline."""
    start = time.perf_counter()
    for info in infos:
        img = cv2.imdecode(np.fromfile(info['img_path'], np.uint8), cv2.IMREAD_COLOR)
        out = cv2.resize(img, (640, 640), interpolation=cv2.INTER_LINEAR)
        planes = np.empty((3, 640, 640), np.uint8)
        cv2.split(out, list(planes))
    return 1e3 * (time.perf_counter() - start) / len(infos)


def compare(more: list[float], less: list[float]) -> dict:
    """Return the median and the range of the ratio over rounds."""
    ratios = [a / b for a, b in zip(more, less, strict=True)]
    return dict(ratio=median(ratios), ratio_range=[min(ratios), max(ratios)])


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
        runs = in_turns(candidates | {'floor': partial(floor_ms, infos)}, rounds)
        floors = runs.pop('floor')
        totals = {side: [total for total, _ in side_runs] for side, side_runs in runs.items()}
        result[stage] = dict(
            **compare(totals['mmdet'], totals['ours']),
            floor_ms=median(floors),
            **{
                side: dict(
                    ms=median(totals[side]),
                    steps={name: median(steps[name] for _, steps in side_runs) for name in side_runs[0][1]},
                )
                for side, side_runs in runs.items()
            },
        )
    return result


class Mixing:
    """A step that mixes images; without a cache, it loads the other images as mmdet's MultiImageMixDataset does."""

    def __init__(self, config: dict, dataset: Dataset) -> None:
        self.step = TRANSFORMS.build(config)
        self.dataset = dataset
        self.loads = 'Cached' not in config['type']

    def run(self, images: int) -> float:
        """Return the milliseconds of CPU time per image, with the loading of the other images if there is no cache."""
        spent = 0.0
        for i in range(images):
            results = self.dataset[i % len(self.dataset)]
            begin = time.process_time()
            if self.loads:
                indexes = self.step.get_indexes(self.dataset)
                others = indexes if isinstance(indexes, list) else [indexes]
                results['mix_results'] = [self.dataset[j] for j in others]
            self.step(results)
            spent += time.process_time() - begin
        return 1e3 * spent / images


def time_cache(root: Path, rounds: int, images: int) -> dict:
    """Measure mosaic and MixUp with and without a cache, on images loaded by mmdet."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
    dataset = DATASETS.build(dict(dataset_config(root, load), type='CocoDataset'))
    result = {}
    for name, configs in MIXING.items():
        steps = {side: Mixing(config, dataset) for side, config in configs.items()}
        for step in steps.values():
            step.run(WARM_UP)
        runs = in_turns({side: partial(step.run, images) for side, step in steps.items()}, rounds)
        result[name] = {
            side: dict(ms=median(times), **compare(runs['mmdet, no cache'], times)) for side, times in runs.items()
        }
    return result


def run_loader(side: str, root: Path, workers: int, batches: int) -> tuple[float, float]:
    """Return images per second, and seconds to the first batch; stage 1, batches of 16."""
    shipped = Config.fromfile(SIDES[side]).train_dataloader
    # Repeated, so that one epoch is longer than the measurement.
    dataset = dict(type='RepeatDataset', times=100, dataset=dataset_config(root, pipeline_of(side, 'stage 1')))
    loader_config = dict(
        batch_size=16,
        num_workers=workers,
        persistent_workers=True,
        collate_fn=shipped.get('collate_fn', dict(type='pseudo_collate')),
        sampler=shipped.sampler,
        dataset=dataset,
    )
    loader = Runner.build_dataloader(loader_config, seed=0)
    if side == 'ours':
        fetch_by_place(loader.dataset)  # as the training loop does
    start = time.perf_counter()
    batch_source = iter(loader)
    next(batch_source)
    first = time.perf_counter() - start
    for _ in range(WARM_UP * workers // 16):
        next(batch_source)
    start = time.perf_counter()
    for _ in range(batches):
        next(batch_source)
    rate = 16 * batches / (time.perf_counter() - start)
    batch_source._shutdown_workers()
    return rate, first


def time_loader(root: Path, workers: int, rounds: int, batches: int) -> dict:
    """Measure both sides with `run_loader`."""
    runs = in_turns({side: partial(run_loader, side, root, workers, batches) for side in SIDES}, rounds)
    rates, firsts = ({side: [run[i] for run in runs[side]] for side in SIDES} for i in range(2))
    return dict(
        **compare(rates['ours'], rates['mmdet']),
        **{side: dict(images_per_s=median(rates[side]), first_batch_s=median(firsts[side])) for side in SIDES},
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


def peak_mib() -> float:
    """Return the largest resident memory of this process so far; `getrusage` would count its parent's."""
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    return int(line.split()[1]) / 1024


def memory_of(side: str, root: Path) -> dict:
    """Return the peak memory in MiB of this process after it filled the caches; run it in a separate process."""
    dataset = DATASETS.build(dataset_config(root, pipeline_of(side, 'stage 1')))
    before = peak_mib()
    for i in range(WARM_UP + 20):
        dataset[i % len(dataset)]
    peak = peak_mib()
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
    """Return the measured parts as Markdown."""
    lines = [f'Measured on {result["machine"]}.', '']
    if 'steps' in result:
        lines += pipeline_table(result)
    if 'cache' in result:
        lines += cache_table(result['cache'])
    return '\n'.join(lines) + '\n'


def cache_table(figures: dict) -> list[str]:
    lines = [
        '',
        '| 640 px, ms of CPU time per image | mmdet, no cache | mmdet, cached | ours, cached |',
        '| --- | --- | --- | --- |',
    ]
    for name, sides in figures.items():
        faster = [f'{sides[side]["ms"]:.1f} ({sides[side]["ratio"]:.1f}x)' for side in ('mmdet', 'ours')]
        lines.append(f'| {name} | {sides["mmdet, no cache"]["ms"]:.1f} | {" | ".join(faster)} |')
    return lines


def pipeline_table(result: dict) -> list[str]:
    lines = ['| RTMDet-s, 640 px | mmdet | ours | ratio |', '| --- | --- | --- | --- |']
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
    for size, figures in result['memory'].items():
        ours, theirs = figures['ours'], figures['mmdet']
        for key, name in (('peak', 'peak memory of a worker'), ('data', 'of that, without the imports')):
            values = f'{theirs[key + "_mib"]:.0f} | {ours[key + "_mib"]:.0f}'
            lines.append(f'| {size}: {name}, MiB | {values} | {figures[key + "_ratio"]:.1f} |')
    for stage in STAGES:
        lines += ['', f'| {stage} | ms per image |', '| --- | --- |']
        for side in SIDES:
            for name, value in result['steps'][stage][side]['steps'].items():
                lines.append(f'| {side}: {name} | {value:.2f} |')
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get('RTMDET_DATA', 'data')) / 'coco_tiny'
    parser.add_argument('--data', type=Path, default=data, help='folder with train2017 and annotations')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder for the results (default: %(default)s)')
    parser.add_argument('--quick', action='store_true', help='measure only a few rounds and write no results')
    parser.add_argument('--only', choices=['cache'], help='measure only this and keep the other results')
    parser.add_argument('--memory-of', choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    set_random_seed(0)
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='ERROR')
    if args.memory_of:
        print(json.dumps(memory_of(args.memory_of, args.data)))
        return
    if not (args.data / 'annotations').is_dir():
        sys.exit(f'--data must have a folder annotations, got {args.data}; set RTMDET_DATA to the folder of coco_tiny.')

    rounds = 2 if args.quick else 9
    images = 20 if args.quick else 100
    saved = args.out / 'data_pipeline.json'
    if args.only and saved.is_file():
        result = json.loads(saved.read_text())
    else:
        machine = f'{os.cpu_count()} CPU cores, torch {torch.__version__}, OpenCV {cv2.__version__}, one thread'
        result = dict(machine=machine)
    if not args.only:
        result |= dict(
            steps=time_steps(args.data, rounds, images),
            loader={str(n): time_loader(args.data, n, 1 if args.quick else 3, 3 if args.quick else 30) for n in (1, 2)},
            memory={f'{w}x{h} images': measure_memory(w, h) for w, h in ((640, 480), (4000, 3000))},
        )
    result['cache'] = time_cache(args.data, rounds, images // 4)
    print(table(result))
    if not args.quick:
        args.out.mkdir(parents=True, exist_ok=True)
        saved.write_text(json.dumps(result, indent=2) + '\n')
        (args.out / 'data_pipeline.md').write_text(table(result))


if __name__ == '__main__':
    main()
