"""Measure trainings with the configs as they are next to mmdet's: seconds per step with loading, hooks and threads.

    python benchmarks/training.py [SIZE ...] [--busy-cores 0 1] [--validation]

Images of coco_tiny in RTMDET_DATA, batch 4, 640 px, stage 1, two processes that load images. Each training is a process
of its own, because threads and memory are settings of a process; mmdet's and ours run in turns. The first steps, which
fill the caches, aren't counted. Writes benchmarks/results/training_<device>_<machine>.json. `--validation` measures
the validation instead, with random weights that find as much as trained ones, and writes validation_<device>_<machine>.
"""

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from harness import Cost, arguments, busy_cores, resident_mb
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.runner import Runner
from random_model import load_image, random_checkpoint
from results import DEVICE, report
from train_step import use_plain_norms

import rtmdet_plugin  # noqa: F401  registers the modules
from rtmdet_plugin.inference.predictor import cpu_has_bfloat16

BATCH, WORKERS, WARM_UP = 4, 2, 3
DATA = Path(os.environ.get('RTMDET_DATA', 'data')) / 'coco_tiny'


class Steps(Hook):
    """Record what each step costs in this process, and stop after some steps."""

    priority = 'LOWEST'

    def __init__(self, count: int) -> None:
        self.count, self.marks = count, []

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Record the clocks, and end the process after the last step."""
        if DEVICE == 'cuda':
            torch.cuda.synchronize()
        self.marks.append(Cost.now())
        if len(self.marks) == WARM_UP + self.count + 1:
            costs = [after - before for before, after in zip(self.marks[WARM_UP:], self.marks[WARM_UP + 1 :])]  # noqa: B905
            row = {name: median(getattr(cost, name) for cost in costs) for name in ('wall', 'cpu', 'faults')}
            row |= dict(threads=torch.get_num_threads(), peak=resident_mb())
            print('\n' + json.dumps(row), flush=True)
            os._exit(0)  # the rest of the epoch isn't measured

    after_val_iter = after_train_iter


def config_of(side: str, size: str, precision: str, loop: str) -> Config:
    """Return the config of mmdet or ours as it is, with one loop and this data; without SyncBN, which needs GPUs."""
    if side == 'ours':
        config = Config.fromfile(f'configs/rtmdet_{size}.py')
    else:
        config = get_config(f'mmdet::rtmdet/rtmdet_{size}_8xb32-300e_coco.py')
        use_plain_norms(config)
    config.model.backbone.init_cfg = None
    config.log_level = 'WARNING'
    for other in {'train', 'val', 'test'} - {loop}:
        for part in ('dataloader', 'cfg', *(['evaluator'] if other != 'train' else [])):
            config[f'{other}_{part}'] = None
    labels, loader = f'annotations/instances_{loop}2017.json', config[f'{loop}_dataloader']
    loader.update(batch_size=BATCH, num_workers=WORKERS)
    loader.dataset.update(data_root=str(DATA), ann_file=labels, data_prefix=dict(img=f'{loop}2017/'))
    if loop == 'val':
        config.val_evaluator.ann_file = str(DATA / labels)
        config.optim_wrapper = config.param_scheduler = None
    else:
        config.train_cfg.val_interval = 1000
        if precision != 'float32':
            kind = 'AmpOptimWrapper' if DEVICE == 'cuda' else 'RTMBFloat16OptimWrapper'  # mmengine's refuses CPUs
            config.optim_wrapper.type = kind
    return config


def run(side: str, size: str, precision: str, loop: str, steps: int) -> None:
    """Train or validate for some steps, print their cost as a line of JSON, and exit."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(side, size, precision, loop)
        config.work_dir = folder
        if loop == 'val':
            config.load_from = str(random_checkpoint(size, Path(folder) / 'random.pth', load_image()))
        runner = Runner.from_cfg(config)
        runner.register_hook(Steps(steps))
        getattr(runner, loop)()


def measure(*settings: object) -> dict:
    """Call `run` in a process with the environment of this one, and return its figures."""
    command = [sys.executable, '-W', 'ignore', __file__, '--run', *map(str, settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(size: str, precision: str, loop: str, condition: str, rounds: int, steps: int) -> list[dict]:
    """Return the figures of both sides in one condition."""
    found: dict[str, list[dict]] = {'mmdet': [], 'ours': []}
    for _ in range(rounds):
        for side, runs in found.items():
            runs.append(measure(side, size, precision, loop, steps))
    rows = []
    for side, runs in found.items():
        walls = [run['wall'] for run in runs]
        ratios = [mmdet['wall'] / own for mmdet, own in zip(found['mmdet'], walls, strict=True)]
        figures = dict(s=median(walls), low=min(walls), high=max(walls), CPU=median(run['cpu'] for run in runs))
        figures |= {'times mmdet': median(ratios), 'page faults': median(run['faults'] for run in runs)}
        figures |= {'peak MB': max(run['peak'] for run in runs), 'threads': runs[-1]['threads']}
        rows.append(dict(condition=condition, size=size, precision=precision, config=side, **figures))
    return rows


def main(sizes: Sequence[str], args: Namespace) -> None:
    """Measure, print and write."""
    if not DATA.is_dir():
        sys.exit(f'RTMDET_DATA must be the folder of coco_tiny, got {DATA.parent}')
    loop, name = ('val', 'validation') if args.validation else ('train', 'training')
    rounds, steps = (1, 1) if args.quick else (args.rounds, 5)
    half = DEVICE == 'cuda' or cpu_has_bfloat16()
    rows = []
    for size in sizes[: 1 if args.quick else None]:
        for precision in ('float32', 'AMP') if half and loop == 'train' else ('float32',):
            for count in args.busy_cores:
                with busy_cores(count) as condition:
                    rows += rows_of(size, precision, loop, condition, rounds, steps)
                report(name, rows, save=not args.quick)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--run']:
        run(*sys.argv[2:6], int(sys.argv[6]))
    parser = arguments(__doc__)
    parser.add_argument('sizes', nargs='*', metavar='SIZE', help='sizes of the model (default: tiny s)')
    parser.add_argument('--rounds', type=int, default=3, help='trainings of each config in each condition (default: 3)')
    parser.add_argument('--validation', action='store_true', help='measure the validation instead')
    given = parser.parse_args()
    main(given.sizes or ('tiny', 's'), given)
