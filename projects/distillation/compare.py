"""Train a small detector with a teacher and without, with several seeds; print AP with its spread.

    python projects/distillation/compare.py --seeds 0 1 2

The data are the demo's images, the student has half the channels of the demo's detector, and the teacher is the demo's
detector with its shipped weights. The trainings run one after the other, each with one thread. Results are added to
work_dirs/distillation/results.json after each training, and those that it already has are skipped: delete the file to
measure again.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'projects' / 'demo'))
CONFIGS = {'without': 'rtmdet_demo_narrow.py', 'with': 'rtmdet_demo_narrow_from_demo.py'}
"""Config of the student without and with a teacher."""


def train(work_dir: Path, teacher: str, seed: int) -> dict:
    """Train once; return AP after the last epoch, and the median time of a step in stage 1."""
    import report

    folder = work_dir / f'{teacher}_{seed}'
    shutil.rmtree(folder, ignore_errors=True)
    env = {'OMP_NUM_THREADS': '1', **os.environ, 'RTMDET_DEMO_DATA': str(work_dir / 'data')}
    env['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), env.get('PATH', '')])
    config = ROOT / 'projects' / 'distillation' / CONFIGS[teacher]
    command = [sys.executable, '-m', 'mim', 'train', 'mmdet', str(config), '--gpus', '0', '--work-dir', str(folder)]
    command += ['--cfg-options', f'randomness.seed={seed}']
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    steps, validations = report.read_scalars(folder)
    stage_1 = [record['time'] for record in steps if record['epoch'] <= 5]
    last = validations[-1]
    return dict(teacher=teacher, seed=seed, ap=last[report.AP], ap50=last[report.AP50], step=statistics.median(stage_1))


def print_table(rows: list[dict]) -> None:
    """Print a row for the trainings with a teacher, one for those without, and the differences by seed."""
    table = Table('teacher', 'runs', 'AP', 'AP50', 'ms per step in stage 1', title='The student over seeds')
    runs = {(row['teacher'], row['seed']): row for row in rows}
    for kind in CONFIGS:
        chosen = [row for row in rows if row['teacher'] == kind]
        step = statistics.median(row['step'] for row in chosen)
        cells = [spread([row[figure] for row in chosen]) for figure in ('ap', 'ap50')]
        table.add_row(kind, str(len(chosen)), *cells, f'{1e3 * step:.0f}')
    pairs = [(runs['with', seed], runs['without', seed]) for kind, seed in runs if kind == 'with']
    gains = {figure: [ours[figure] - plain[figure] for ours, plain in pairs] for figure in ('ap', 'ap50')}
    table.add_row('difference', str(len(pairs)), *map(spread, gains.values()), '')
    Console().print(table)
    print('Difference of AP by seed:', ', '.join(f'{gain:+.3f}' for gain in gains['ap']))


def spread(values: list[float]) -> str:
    """Format the mean and the standard deviation of values."""
    deviation = f' ± {statistics.stdev(values):.3f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.3f}{deviation}'


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'distillation')
    args = parser.parse_args()
    from generate import Settings, generate

    args.work_dir.mkdir(parents=True, exist_ok=True)
    generate(args.work_dir / 'data', Settings())
    results = args.work_dir / 'results.json'
    rows = json.loads(results.read_text()) if results.is_file() else []
    known = {(row['teacher'], row['seed']) for row in rows}
    for seed in args.seeds:
        for teacher in CONFIGS:
            if (teacher, seed) not in known:
                rows.append(train(args.work_dir.resolve(), teacher, seed))
                print(rows[-1], flush=True)
                results.write_text(json.dumps(rows, indent=1) + '\n')
    print_table(rows)


if __name__ == '__main__':
    main()
