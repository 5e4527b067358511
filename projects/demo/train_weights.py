"""Train the weights in this folder: the demo's config for 40 epochs, published as float16 `.safetensors`.

    .venv/bin/python projects/demo/train_weights.py

Seed 0, about ten minutes on two CPU cores. The demo predicts with these weights before it trains its own, and the tests
use them if a trained detector is needed. On another CPU the weights differ and the AP is similar.
"""

import argparse
import os
import shutil
from pathlib import Path

from generate import Settings, generate
from run import CONFIG, ROOT, WEIGHTS, call

WORK_DIR = ROOT / 'work_dirs' / 'demo_weights'
OPTIONS = (
    'optim_wrapper.optimizer.lr=0.002',  # half the demo's, for a longer run
    'train_cfg.max_epochs=40',
    'train_cfg.val_interval=10',
    'default_hooks.pipeline_switch.num_last_epochs=10',
    'default_hooks.pipeline_switch.val_interval=5',
)


def write_half_precision(checkpoint: Path, target: Path) -> None:
    """Write the averaged weights of a checkpoint as float16, with the names of the classes."""
    from mmengine.runner import CheckpointLoader

    from rtmdet_plugin.compat.safetensors_file import dump_safetensors
    from rtmdet_runtime.atomic_files import write_atomically

    loaded = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu', logger=None)
    weights = {name: t.half() if t.is_floating_point() else t for name, t in loaded['state_dict'].items()}
    write_atomically(target, dump_safetensors(weights, dict(dataset_meta=loaded['meta']['dataset_meta'])))


def main() -> None:
    """Train, and write the weights to the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=WEIGHTS, help='file to write (default: %(default)s)')
    args = parser.parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    data, train_dir = (WORK_DIR / name for name in ('data', 'train'))
    shutil.rmtree(train_dir, ignore_errors=True)
    WORK_DIR.mkdir(parents=True, exist_ok=True)
    generate(data, Settings())
    os.environ['RTMDET_DEMO_DATA'] = str(data)
    command = ['train', 'mmdet', str(CONFIG.relative_to(ROOT)), '--gpus', '0', '--work-dir', str(train_dir)]
    call([*command, '--cfg-options', *OPTIONS], WORK_DIR / 'train.log')
    import report

    write_half_precision(report.find_checkpoint(train_dir), args.out)
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
