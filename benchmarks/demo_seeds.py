"""Train the demo with several seeds, memory orders, precisions and CPU instruction sets; print AP with its spread.

    python benchmarks/demo_seeds.py --seeds 0 1 2 3 4 --orders channels_last contiguous --isas default AVX2

Runs one training after the other, each with one thread. Results are added to benchmarks/results/demo_seeds_cpu.json
after each run, and runs that it already has are skipped: delete the file to measure again.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / 'projects' / 'demo'
RESULTS = ROOT / 'benchmarks' / 'results' / 'demo_seeds_cpu.json'
ORDERS = {'channels_last': [], 'contiguous': ['custom_hooks=[]']}
"""Options of `mim train` for each memory order; the demo is configured with channels last."""
PRECISIONS = {'float32': [], 'bfloat16': ['optim_wrapper.type=RTMBFloat16OptimWrapper']}
"""Options of `mim train` for each precision."""


def train(data: Path, seed: int, order: str, isa: str, precision: str) -> dict:
    """Train once; return the settings and the metrics of the best validation, which equal those of `mim test`."""
    sys.path.insert(0, str(DEMO))
    import report

    env = {'OMP_NUM_THREADS': '1', **os.environ, 'RTMDET_DEMO_DATA': str(data)}
    env['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), env.get('PATH', '')])
    env.pop('ONEDNN_MAX_CPU_ISA', None)
    if isa != 'default':
        env['ONEDNN_MAX_CPU_ISA'] = isa
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder) / 'train'
        command = [sys.executable, '-m', 'mim', 'train', 'mmdet', str(DEMO / 'rtmdet_demo.py'), '--gpus', '0']
        command += ['--work-dir', str(work_dir), '--cfg-options', f'randomness.seed={seed}', *ORDERS[order]]
        command += PRECISIONS[precision]
        start = time.time()
        subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.time() - start
        best = max(report.read_scalars(work_dir)[1], key=lambda record: record[report.AP])
    metrics = dict(ap=best[report.AP], ap50=best[report.AP50], seconds=round(seconds))
    return dict(order=order, precision=precision, isa=isa, seed=seed, **metrics)


def print_table(rows: list[dict]) -> None:
    """Print a row for each combination of settings and instruction set, and one for all instruction sets."""
    columns = 'memory order', 'precision', 'instruction set', 'runs', 'AP', 'AP50', 'lowest AP50'
    table = Table(*columns, title='The demo over seeds')
    combinations = sorted({(row['order'], row['precision'], row['isa']) for row in rows})
    for order, precision, isa in [*combinations, *((*pair, 'all') for pair in itertools.product(ORDERS, PRECISIONS))]:
        same = [row for row in rows if (row['order'], row['precision']) == (order, precision)]
        chosen = [row for row in same if isa in ('all', row['isa'])]
        if len(chosen) < 2:
            continue
        cells = []
        for figure in ('ap', 'ap50'):
            values = [row[figure] for row in chosen]
            cells.append(f'{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}')
        table.add_row(order, precision, isa, str(len(chosen)), *cells, f'{min(row["ap50"] for row in chosen):.3f}')
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=list(range(10)))
    parser.add_argument('--orders', nargs='+', choices=ORDERS, default=['channels_last'])
    parser.add_argument('--isas', nargs='+', default=['default', 'AVX2'], help='values of ONEDNN_MAX_CPU_ISA')
    parser.add_argument('--precisions', nargs='+', choices=PRECISIONS, default=['float32'])
    args = parser.parse_args()
    sys.path.insert(0, str(DEMO))
    from generate import Settings, generate

    rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    known = {(row['seed'], row['order'], row['isa'], row['precision']) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / 'data'
        generate(data, Settings())
        for run in itertools.product(args.seeds, args.orders, args.isas, args.precisions):
            if run not in known:
                rows.append(train(data, *run))
                print(rows[-1], flush=True)
                RESULTS.write_text(json.dumps(rows, indent=1) + '\n')
    print_table(rows)


if __name__ == '__main__':
    main()
