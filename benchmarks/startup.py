"""Measure how long the help of `rtmdet` takes, next to `python -c 'import torch'`, alternating.

    python benchmarks/startup.py

Writes benchmarks/results/startup_<device>_<machine>.json.
"""

import subprocess
import sys
from functools import partial

from harness import arguments, busy_cores, costs, milliseconds
from results import report

COMMANDS = {
    'python -c pass': ['-c', 'pass'],
    "python -c 'import torch'": ['-c', 'import torch'],
    'rtmdet --help': ['-m', 'rtmdet_cli.main', '--help'],
    'rtmdet train --help': ['-m', 'rtmdet_cli.main', 'train', '--help'],
    'rtmdet predict --help': ['-m', 'rtmdet_cli.main', 'predict', '--help'],
}


def run(command: list[str]) -> None:
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--rounds', type=int, default=9)
    args = parser.parse_args()
    calls = {name: partial(run, command) for name, command in COMMANDS.items()}
    rows = []
    for count in args.busy_cores:
        with busy_cores(count) as condition:
            taken = costs(calls, 1 if args.quick else args.rounds)
        rows += [dict(condition=condition, command=name, **milliseconds(taken[name])) for name in COMMANDS]
    report('startup', rows, save=not args.quick)


if __name__ == '__main__':
    main()
