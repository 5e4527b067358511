"""Measure how long the help of `rtmdet` takes, next to `python -c 'import torch'`, alternating.

    python benchmarks/startup.py

Prints medians, and writes benchmarks/results/startup_cpu.json.
"""

import argparse
import statistics
import subprocess
import sys

from harness import write

from rtmdet_plugin.inference.benchmark import take_turns

COMMANDS = {
    'python -c pass': ['-c', 'pass'],
    "python -c 'import torch'": ['-c', 'import torch'],
    'rtmdet --help': ['-m', 'rtmdet_cli.main', '--help'],
    'rtmdet train --help': ['-m', 'rtmdet_cli.main', 'train', '--help'],
    'rtmdet predict --help': ['-m', 'rtmdet_cli.main', 'predict', '--help'],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=9)
    args = parser.parse_args()

    def run(arguments: list[str]) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    calls = {name: lambda arguments=arguments: run(arguments) for name, arguments in COMMANDS.items()}
    rows = [
        {'command': name, 'seconds': statistics.median(seconds), 'lowest': min(seconds), 'highest': max(seconds)}
        for name, seconds in take_turns(calls, args.rounds, warmup=1).items()
    ]
    write('startup', rows, ['command', 'seconds', 'lowest', 'highest'])


if __name__ == '__main__':
    main()
