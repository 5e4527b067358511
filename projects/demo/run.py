"""The demo from end to end: generate pictures, train in two stages, test, draw, and print a table.

    .venv/bin/python projects/demo/run.py

All output goes to work_dirs/demo. Every run trains afresh; the pictures are kept if they are the same. Exits with 1 and
one line where a step fails, or AP50 on the held-out pictures is below 0.5.
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
# Lines of a log that are worth the terminal; the rest is in the file.
SHOWN = dict(train=('Epoch(train)', 'Epoch(val)', 'Stage 2'), test=('Average Precision', 'Epoch(test)'))


def call(arguments: list[str], log: Path, env: dict[str, str]) -> None:
    """Run `python -m mim` with `arguments` from the repository's root, its output in `log`.

    Raises:
        SystemExit: where it fails; the message names the log.
    """
    # mim starts programs of the environment by name.
    path = os.pathsep.join([str(Path(sys.executable).parent), env.get('PATH', '')])
    command = [sys.executable, '-m', 'mim', *arguments]
    print('$ mim', *arguments, flush=True)
    with log.open('w') as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**env, 'PATH': path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in process.stdout:
            file.write(line)
            if any(text in line for text in SHOWN[arguments[0]]):
                print(line.split(' - INFO - ')[-1], end='', flush=True)
        if process.wait():
            raise SystemExit(f'demo: `mim {arguments[0]}` failed; the reason is at the end of {log}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'demo')
    parser.add_argument('--train', type=int, default=Settings.train, help='number of pictures to train on')
    parser.add_argument('--val', type=int, default=Settings.val, help='number of held-out pictures')
    parser.add_argument('--min-ap50', type=float, default=0.5, help='fail below this AP50')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='for `mim train`, such as train_cfg.max_epochs=2')
    args = parser.parse_args()
    start = time.time()

    work_dir = args.work_dir.resolve()
    data, train_dir, test_dir = (work_dir / name for name in ('data', 'train', 'test'))
    work_dir.mkdir(parents=True, exist_ok=True)
    # What an earlier run left must not be taken for this one's.
    for folder in (train_dir, test_dir):
        shutil.rmtree(folder, ignore_errors=True)
    for picture in work_dir.glob('*.png'):
        picture.unlink()

    settings = Settings(train=args.train, val=args.val)
    try:
        written = generate(data, settings)
    except ValueError as error:
        raise SystemExit(f'demo: {error}') from None
    print(f'{settings.train} + {settings.val} pictures {"written to" if written else "are in"} {data}', flush=True)

    # One thread beside the one worker: a second thread gains a fifth on two idle cores, and where something else runs
    # the two wait for each other (0.9 s a step instead of 0.2 s).
    env = {'OMP_NUM_THREADS': '1', **os.environ, 'RTMDET_DEMO_DATA': str(data)}
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    config = str(CONFIG.relative_to(ROOT))
    train_start = time.time()
    call(
        ['train', 'mmdet', config, '--gpus', '0', '--work-dir', str(train_dir), *options],
        work_dir / 'train.log',
        env,
    )
    train_time = time.time() - train_start

    # Here and not above: they import torch, while the processes that do the work have been waiting for the cores.
    os.environ.update(RTMDET_DEMO_DATA=str(data))
    import report
    from mmengine.config import Config

    checkpoint = report.find_checkpoint(train_dir)
    call(
        ['test', 'mmdet', config, '--checkpoint', str(checkpoint), '--gpus', '0', '--work-dir', str(test_dir)],
        work_dir / 'test.log',
        env,
    )
    figures = json.loads(report.latest(test_dir, '*/*.json').read_text())
    run_config = Config.fromfile(train_dir / CONFIG.name)
    pictures = report.draw_report(run_config, train_dir, checkpoint, work_dir)

    ap, ap50 = figures[report.AP], figures[report.AP50]
    shown = {name: os.path.relpath(path) for name, path in [('checkpoint', checkpoint), ('data', data)]}
    report.print_table(
        f'RTMDet on {settings.val} held-out pictures',
        [
            ('AP', f'{ap:.3f}'),
            ('AP50', f'{ap50:.3f}'),
            ('training', f'{train_time:.0f} s'),
            ('in all', f'{time.time() - start:.0f} s'),
            *((path.stem, os.path.relpath(path)) for path in pictures),
            *shown.items(),
            ('logs', os.path.relpath(work_dir / 'train.log') + ', ' + os.path.relpath(work_dir / 'test.log')),
        ],
    )
    if ap50 < args.min_ap50:
        raise SystemExit(f'demo: AP50 {ap50:.3f} on the held-out pictures is below {args.min_ap50}')


if __name__ == '__main__':
    main()
