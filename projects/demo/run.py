"""Run the demo from end to end: generate images, predict, train in two stages, test, draw, and print a table.

    .venv/bin/python projects/demo/run.py

The first predictions are those of `rtmdet_demo.safetensors`, the weights that train_weights.py trained. All output goes
to work_dirs/demo. Each run trains from scratch; images with the same settings are kept. Exits with 1 and one line if a
step fails or AP50 on the held-out images is below 0.9.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from generate import Settings, generate

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'projects' / 'demo' / 'rtmdet_demo.py'
WEIGHTS = CONFIG.with_suffix('.safetensors')
FIRST = 'predictions_of_shipped_weights.png'
DRAWN = (FIRST, 'predictions.png', 'curves.png')
# Log lines that are printed to the terminal; the log file has all of them.
SHOWN = dict(train=('Epoch(train)', 'Epoch(val)', 'Stage 2'), test=('Average Precision', 'Epoch(test)'))


def call(arguments: list[str], log: Path) -> None:
    """Run `python -m mim` with `arguments` from the repository's root; write its output to `log`.

    Raises:
        SystemExit: if it fails; the message names the log.
    """
    # mim starts programs of the environment by name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')])
    command = [sys.executable, '-m', 'mim', *arguments]
    print('$ mim', *arguments, flush=True)
    with log.open('w') as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, 'PATH': path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in process.stdout:
            file.write(line)
            if any(text in line for text in SHOWN[arguments[0]]):
                print(line.split(' - INFO - ')[-1], end='', flush=True)
        if process.wait():
            raise SystemExit(f'demo: `mim {arguments[0]}` failed; the reason is at the end of {log}')


def check_own(work_dir: Path) -> None:
    """Refuse a folder that isn't the demo's, because the results of an earlier demo are removed from it.

    Raises:
        ValueError: if it isn't empty and has no generated images.
    """
    found = [path.name for path in work_dir.iterdir()] if work_dir.is_dir() else []
    # An interrupted demo may have left only `data.unfinished`.
    if found not in ([], ['data.unfinished']) and not (work_dir / 'data' / 'settings.json').is_file():
        raise ValueError(f'--work-dir must be a new or empty folder or an earlier demo, got {work_dir}')


def main() -> None:
    """Run the demo with the settings of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'demo')
    parser.add_argument('--train', type=int, default=Settings.train, help='number of training images')
    parser.add_argument('--val', type=int, default=Settings.val, help='number of held-out images')
    parser.add_argument('--min-ap50', type=float, default=0.9, help='fail if AP50 is below this (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='options of `mim train`: train_cfg.max_epochs=2')
    args = parser.parse_args()
    start = time.time()

    work_dir = args.work_dir.resolve()
    data, train_dir, test_dir = (work_dir / name for name in ('data', 'train', 'test'))
    settings = Settings(train=args.train, val=args.val)
    try:
        check_own(work_dir)
        work_dir.mkdir(parents=True, exist_ok=True)
        written = generate(data, settings)
    except ValueError as error:
        raise SystemExit(f'demo: {error}') from None
    # Remove the results of an earlier run, so that they can't be mistaken for this one's.
    for folder in (train_dir, test_dir):
        shutil.rmtree(folder, ignore_errors=True)
    for image in DRAWN:
        (work_dir / image).unlink(missing_ok=True)
    print(f'{settings.train} + {settings.val} images {"written to" if written else "are in"} {data}', flush=True)

    os.environ['RTMDET_DEMO_DATA'] = str(data)
    # One thread next to the one worker: a second thread gains a fifth on two idle cores; if another program runs, the
    # two wait for each other (0.9 s per step instead of 0.2 s).
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    import report  # imports torch, which reads OMP_NUM_THREADS
    from mmengine.config import Config

    first = work_dir / FIRST
    report.draw_predictions(Config.fromfile(CONFIG), WEIGHTS, first)
    print(f'{time.time() - start:.0f} s: predictions of {WEIGHTS.name} drawn to {os.path.relpath(first)}', flush=True)
    print('Training a detector of the same kind from random weights:', flush=True)
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    config = str(CONFIG.relative_to(ROOT))
    train_start = time.time()
    call(
        ['train', 'mmdet', config, '--gpus', '0', '--work-dir', str(train_dir), *options],
        work_dir / 'train.log',
    )
    train_time = time.time() - train_start

    checkpoint = report.find_checkpoint(train_dir)
    call(
        ['test', 'mmdet', config, '--checkpoint', str(checkpoint), '--gpus', '0', '--work-dir', str(test_dir)],
        work_dir / 'test.log',
    )
    figures = json.loads(report.latest(test_dir, '*/*.json').read_text())
    run_config = Config.fromfile(train_dir / CONFIG.name)
    images = report.draw_report(run_config, train_dir, checkpoint, work_dir)

    ap, ap50 = figures[report.AP], figures[report.AP50]
    shown = {name: os.path.relpath(path) for name, path in [('checkpoint', checkpoint), ('data', data)]}
    report.print_table(
        f'RTMDet on {settings.val} held-out images',
        [
            ('AP', f'{ap:.3f}'),
            ('AP50', f'{ap50:.3f}'),
            ('training', f'{train_time:.0f} s'),
            ('total', f'{time.time() - start:.0f} s'),
            *((path.stem, os.path.relpath(path)) for path in images),
            *shown.items(),
            ('logs', os.path.relpath(work_dir / 'train.log') + ', ' + os.path.relpath(work_dir / 'test.log')),
        ],
    )
    if ap50 < args.min_ap50:
        raise SystemExit(f'demo: AP50 {ap50:.3f} on the held-out images is below {args.min_ap50}')


if __name__ == '__main__':
    main()
