"""Download the wheels that `make bench-gpu WHEELS=FOLDER` needs on a machine with only PyTorch: `make gpu-wheels`.

    python benchmarks/gpu_wheels.py FOLDER [--python 3.12] [--machine x86_64] [--has NAME ...]

They are those of the extras `lite` and `test` in the versions of constraints.txt, without PyTorch and what it brings.
"""

import argparse
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / 'constraints.txt'


def write_stand_in(folder: Path, constraints: str) -> None:
    """Write an empty wheel of PyTorch in the version of the constraints, which pip prefers to the real one."""
    version = re.search(r'^torch==(\S+)', constraints, re.MULTILINE)[1] + '+none'  # a local version is a newer one
    with zipfile.ZipFile(folder / f'torch-{version}-py3-none-any.whl', 'w') as wheel:
        info = f'torch-{version}.dist-info'
        wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\nName: torch\nVersion: {version}\n')
        wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        wheel.writestr(f'{info}/RECORD', '')


def normalised(name: str) -> str:
    """Return a distribution's name as in the names of wheels."""
    return re.sub(r'[-_.]+', '_', name).lower()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder for the wheels; those in it are removed first')
    parser.add_argument('--python', default='.'.join(platform.python_version_tuple()[:2]), help="that machine's Python")
    parser.add_argument('--machine', default=platform.machine(), help="that machine's architecture")
    parser.add_argument('--has', nargs='*', default=[], metavar='NAME', help='packages that it has, beside PyTorch')
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for old in args.folder.glob('*.whl'):
        old.unlink()
    target = ['--only-binary=:all:', f'--python-version={args.python}', '--implementation=cp']
    target += [f'--platform=manylinux_2_{minor}_{args.machine}' for minor in range(39, 4, -1)]  # pip matches exactly
    target += [f'--platform=manylinux{name}_{args.machine}' for name in ('2014', '2010', '1')]
    with tempfile.TemporaryDirectory() as ours:
        write_stand_in(Path(ours), CONSTRAINTS.read_text())
        subprocess.run([sys.executable, 'tests/wheels.py', ours], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        command = [sys.executable, '-m', 'pip', 'download', '-q', '--disable-pip-version-check', '-d', str(args.folder)]
        command += ['-c', str(CONSTRAINTS), '--find-links', ours, *target, 'rtmdet_plugin[lite,test]', 'setuptools<81']
        subprocess.run(command, check=True)
    left_out = {'rtmdet_plugin', 'torch', *map(normalised, args.has)}  # the checkout is used, not its wheel
    for wheel in args.folder.glob('*.whl'):
        if normalised(wheel.name.split('-')[0]) in left_out:
            wheel.unlink()
    wheels = list(args.folder.glob('*.whl'))
    print(f'{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels) / 2**20:.0f} MiB, in {args.folder}')


if __name__ == '__main__':
    main()
