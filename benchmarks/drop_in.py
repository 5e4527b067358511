"""Measure what `drop_in` gains: a training step and the data pipelines of one of mmdet's configs, before and after it.

    python benchmarks/drop_in.py [CONFIG]    # default: mmdet's RTMDet-tiny

The step is that of train_step.py, batch 4 on a CPU; the pipelines are measured as in data_pipeline.py, on the images
of RTMDET_DATA. Both run in turns, on one thread; figures are medians. Writes
benchmarks/results/drop_in_<device>_<machine>.json.
"""

import copy
import os
import sys
from pathlib import Path
from statistics import median

os.environ.setdefault('OMP_NUM_THREADS', '1')

import cv2
import torch
from data_pipeline import time_steps
from harness import compare, costs, peak_memory
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from results import report
from train_step import BATCH, Trainer

from rtmdet_plugin import drop_in
from rtmdet_plugin.checkpoints.load_model import read_config

CONFIG = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
ROUNDS, IMAGES = 5, 60


def row(what: str, unit: str, before: list[float], after: list[float]) -> dict:
    """Return a row of the table: medians, and median and range of the ratio."""
    ratio = compare(before, after)
    low, high = ratio['ratio_range']
    return dict(
        what=what, unit=unit, mmdet=median(before), drop_in=median(after), ratio=ratio['ratio'], low=low, high=high
    )


def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    set_random_seed(0)
    init_default_scope('mmdet')
    MMLogger.get_instance('mmengine', log_level='ERROR')
    name = sys.argv[1] if len(sys.argv) > 1 else CONFIG
    root = Path(os.environ.get('RTMDET_DATA', 'data')) / 'coco_tiny'
    if not root.is_dir():
        sys.exit(f'RTMDET_DATA must be the folder of coco_tiny, got {root.parent}')
    configs = dict(mmdet=read_config(name), ours=read_config(name))
    for line in drop_in(configs['ours']).stays:
        print(line)

    trainers = {side: Trainer(copy.deepcopy(config)) for side, config in configs.items()}
    measured = costs({side: trainer.step for side, trainer in trainers.items()}, ROUNDS)
    taken = {side: [1e3 * cost.wall for cost in side_costs] for side, side_costs in measured.items()}
    rows = [row(f'training step, batch {BATCH}', 'ms', taken['mmdet'], taken['ours'])]
    peaks = [[peak_memory(trainers[side].step)] for side in configs]
    rows.append(row('peak memory of a step', 'MB', *peaks))
    for stage, figures in time_steps(root, ROUNDS, IMAGES, configs).items():
        low, high = figures['ratio_range']
        rows.append(
            dict(
                what=f'data pipeline, {stage}, per image',
                unit='ms',
                mmdet=figures['mmdet']['ms'],
                drop_in=figures['ours']['ms'],
                ratio=figures['ratio'],
                low=low,
                high=high,
            )
        )
    report('drop_in', rows)


if __name__ == '__main__':
    main()
