"""Measure everything that a GPU changes, in ten minutes at most: `make bench-gpu`.

    python benchmarks/gpu.py [--minutes 9] [--parts loss nms]
    python benchmarks/gpu.py --dry-run    # on the CPU, in the smallest sizes, writing nothing

Each part is a script of its own with a time limit, so that a part that fails or hangs loses only its own figures. Parts
write their results as they go; the last two, which compile and may take longest, share the time that is left. The
outcome of each part is in benchmarks/results/gpu_<device>_<machine>.json, which is written after each part.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from results import DEVICE, print_rows, write_rows

ROOT = Path(__file__).parents[1]
PARTS = {
    'tests': (60, '-m pytest -q -p no:cacheprovider -m gpu'),
    'loss': (60, 'benchmarks/loss.py --batches 4 16 --objects 10 100 300 1000'),
    'train_step': (150, 'benchmarks/train_step.py'),
    'data_to_device': (75, 'benchmarks/data_to_device.py'),
    'prediction': (60, 'benchmarks/gpu_prediction.py'),
    'nms': (20, 'benchmarks/nms.py'),
    'prediction_compiled': (90, 'benchmarks/gpu_prediction.py --compile tiny x s m l'),
    'train_step_compiled': (600, 'benchmarks/train_step.py --compile tiny x s m l'),
}
"""Name: largest number of seconds, arguments of Python."""
DRY_RUN = dict(
    OMP_NUM_THREADS='1',  # the sizes are too small for several threads
    TORCH_COMPILE_DISABLE='1',  # compiling for a CPU takes minutes
)
"""Environment variables of a dry run."""


def gpu_tests() -> list[str]:
    """Return the files with tests that need a GPU, so that pytest needn't import all others."""
    files = sorted((ROOT / 'tests').rglob('test_*.py'))
    return [str(file.relative_to(ROOT)) for file in files if 'mark.gpu' in file.read_text()]


def run(command: list[str], limit: float) -> str:
    """Run Python with these arguments; return 'done', 'failed' or 'time limit'."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, start_new_session=True)
    try:
        return 'failed' if process.wait(limit) else 'done'
    except subprocess.TimeoutExpired:
        return 'time limit'
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that load images
            process.wait()


def main() -> int:
    """Run the parts; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=9, help='time for all parts (default: 9)')
    parser.add_argument('--parts', nargs='+', choices=PARTS, metavar='PART', help=f'one of {", ".join(PARTS)}')
    parser.add_argument('--dry-run', action='store_true', help='run the smallest sizes, also without a GPU')
    args = parser.parse_args()
    if DEVICE != 'cuda' and not args.dry_run:
        sys.exit('PyTorch must see a GPU, but it sees none; --dry-run runs the smallest sizes on the CPU')
    if args.dry_run:
        os.environ.update(DRY_RUN)
    end, rows = time.monotonic() + 60 * args.minutes, []
    for name in args.parts or PARTS:
        limit, arguments = PARTS[name]
        command = arguments.split()
        command += gpu_tests() if name == 'tests' else ['--quick'] if args.dry_run else []
        start = time.monotonic()
        print(f'--- {name}: python {arguments}', flush=True)
        outcome = run(command, end - start if args.dry_run else min(limit, end - start))
        rows.append(dict(part=name, outcome=outcome, seconds=time.monotonic() - start, command=f'python {arguments}'))
        if not args.dry_run:
            write_rows('gpu', rows)
    print_rows('gpu', rows, list(rows[0]))
    return int(any(row['outcome'] == 'failed' for row in rows))


if __name__ == '__main__':
    sys.exit(main())
