"""Train RTMDet-Ins-tiny with our modules and with mmdet's on the same images and budget; print box and mask AP.

    python benchmarks/ins_trained.py [--sides ours mmdet] [--seeds 0 1 2]

Each side has its own config with its own model, losses, transforms, schedule and averaged weights; the settings below
are the same for both. The images are those of projects/demo, 128 px, whose masks are exact. Training
starts from random weights. Afterwards each side's weights are loaded strictly into both models and evaluated with
`RTMCocoMetric`. Each training takes some minutes on one thread; its row is added to
benchmarks/results/ins_trained_<device>_<machine>.json, and rows that are already there aren't measured again.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')

import cv2
from harness import cost_of
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.runner import Runner, load_checkpoint
from results import print_rows, result_file, write_rows
from train_step import use_plain_norms

import rtmdet_plugin  # noqa: F401  registers the modules
from rtmdet_plugin import find_step, set_input_size

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'projects' / 'demo'))
from generate import CLASSES, Settings, generate  # noqa: E402

SIDES = ('ours', 'mmdet')
DATA = Settings()
BATCH, EPOCHS, STAGE_2_EPOCHS, WARM_UP = 8, 9, 4, 60
LEARNING_RATE = 0.004
EMA = dict(momentum=0.01, gamma=100)  # averages about 100 steps
JITTER, JITTER_2, MIX_UP = (0.7, 1.2), (0.8, 1.25), 0.15
"""Range of the resize ratio in stage 1 and 2, and probability of MixUp: as in projects/demo."""
AUGMENTATIONS = {
    'ours': ('RTMCachedMosaicResizeCrop', 'RTMCachedMixUp', 'RTMRandomResizeCrop'),
    'mmdet': ('RandomResize', 'CachedMixUp', 'RandomResize'),
}
"""Side: the steps that have `JITTER`, `MIX_UP` and `JITTER_2`."""


def base_config(side: str, data: Path) -> Config:
    """Return the config of RTMDet-Ins-tiny with the settings that both sides have in common."""
    if side == 'ours':
        config = Config.fromfile(ROOT / 'configs' / 'rtmdet_ins_tiny.py')
    else:
        config = get_config('mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py')
    set_input_size(config, DATA.size)
    config.model.backbone.init_cfg = None
    config.model.use_syncbn = False
    use_plain_norms(config)
    config.model.bbox_head.num_classes = len(CLASSES)
    loaders = dict(num_workers=0, persistent_workers=False, pin_memory=False)
    for name, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        loader = config[f'{name}_dataloader']
        loader.update(loaders, batch_size=BATCH)
        loader.dataset.update(
            data_root=f'{data}/',
            ann_file=f'{split}.json',
            data_prefix=dict(img=f'{split}/'),
            metainfo=dict(classes=CLASSES),
        )
    resize, mix_up, resize_2 = AUGMENTATIONS[side]
    find_step(config.train_pipeline, resize).ratio_range = JITTER
    find_step(config.train_pipeline, mix_up).prob = MIX_UP
    find_step(config.train_pipeline_stage2, resize_2).ratio_range = JITTER_2
    config.train_dataloader.dataset.pipeline = config.train_pipeline
    metric = dict(
        type='RTMCocoMetric', ann_file=f'{data}/val.json', metric=['bbox', 'segm'], proposal_nums=(100, 1, 10)
    )
    config.val_evaluator = config.test_evaluator = metric
    config.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS + 1)
    config.optim_wrapper.optimizer.lr = LEARNING_RATE
    config.param_scheduler[0].update(start_factor=0.01, end=WARM_UP)
    config.default_hooks.checkpoint.update(interval=EPOCHS, max_keep_ckpts=1)
    config.default_hooks.logger.interval = 20
    config.log_level = 'WARNING'
    return config


def our_config(data: Path) -> Config:
    """Return the config with our modules."""
    config = base_config('ours', data)
    config.default_hooks.checkpoint.update(save_best=None, allow_overwrite=True)
    config.default_hooks.ema.update(EMA)
    config.default_hooks.pipeline_switch.update(
        switch_pipeline=config.train_pipeline_stage2, num_last_epochs=STAGE_2_EPOCHS, val_interval=EPOCHS + 1
    )
    return config


def mmdets_config(data: Path) -> Config:
    """Return the config with mmdet's modules, whose schedule has the number of epochs in several places."""
    config = base_config('mmdet', data)
    config.train_cfg.dynamic_intervals = None
    half = EPOCHS // 2
    config.param_scheduler[1].update(eta_min=LEARNING_RATE * 0.05, begin=half, end=EPOCHS, T_max=EPOCHS - half)
    ema, switch = config.custom_hooks
    ema.update(EMA)
    switch.update(switch_epoch=EPOCHS - STAGE_2_EPOCHS, switch_pipeline=config.train_pipeline_stage2)
    return config


def config_of(side: str, data: Path, work_dir: Path, seed: int = 0) -> Config:
    """Return the complete config of a run."""
    config = our_config(data) if side == 'ours' else mmdets_config(data)
    config.randomness = dict(seed=seed)
    config.work_dir = str(work_dir)
    config.experiment_name = f'{work_dir.name}_{side}'
    return config


def evaluate(side: str, data: Path, work_dir: Path) -> dict[str, float]:
    """Load the averaged weights of a training strictly into the model of a side; return its metrics."""
    runner = Runner.from_cfg(config_of(side, data, work_dir / f'test_{side}'))
    load_checkpoint(runner.model, str(work_dir / f'epoch_{EPOCHS}.pth'), map_location='cpu', strict=True)
    return runner.test()


def run(side: str, data: Path, work_dir: Path, seed: int) -> dict:
    """Train once and evaluate; return the row."""
    cost = cost_of(Runner.from_cfg(config_of(side, data, work_dir, seed)).train)
    row = dict(modules=side, seed=seed)
    for model in sorted(SIDES, key=lambda name: name != side):
        metrics = evaluate(model, data, work_dir)
        where = '' if model == side else ', in the other model'
        for name, task in (('box', 'bbox'), ('mask', 'segm')):
            row[f'{name} AP{where}'] = metrics[f'coco/{task}_mAP']
            if model == side:
                row[f'{name} AP50'] = metrics[f'coco/{task}_mAP_50']
    return row | {'CPU s of training': cost.cpu}


def rows_of_file() -> list[dict]:
    """Return the rows that were measured on this machine before."""
    file = result_file('ins_trained')
    return json.loads(file.read_text())['rows'] if file.is_file() else []


def summary(rows: list[dict]) -> list[dict]:
    """Return the mean and standard deviation of each figure over the seeds of each side."""
    means = []
    for side in SIDES:
        chosen = [row for row in rows if row['modules'] == side]
        row = dict(modules=side, seed=f'{len(chosen)} seeds')
        for name in [key for key in rows[0] if key not in row]:
            values = [found[name] for found in chosen]
            if len(values) > 1:
                row[name] = f'{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}'
        means.append(row)
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sides', nargs='+', choices=SIDES, default=SIDES)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'ins_trained')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    work_dir = args.work_dir.resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    generate(work_dir / 'data', DATA)
    for seed, side in itertools.product(args.seeds, args.sides):
        if (side, seed) not in {(row['modules'], row['seed']) for row in rows_of_file()}:
            row = run(side, work_dir / 'data', work_dir / f'{side}_{seed}', seed)
            write_rows('ins_trained', [*rows_of_file(), row])  # another process may have added rows
    rows = rows_of_file()
    print_rows('ins_trained', rows + summary(rows), list(rows[0]))


if __name__ == '__main__':
    main()
