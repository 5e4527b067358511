"""Install the wheel with one extra into a fresh environment, and run the first steps of a user of this extra.

    python tests/smoke/run.py runtime    # or another of EXTRAS; `make smoke EXTRA=runtime` runs this file

`full` and `onedl` are other stacks than that of `make setup`, so the tests that compare with mmdet run there as well.
`full` compiles mmcv, for a quarter of an hour or more.

The wheel is left in dist/, the environment is removed. Exits with 1 and one line when a step fails.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from wheels import REPO, clean_environment, create_venv, write_wheel  # noqa: E402

EXTRAS = {'lite': 'lite', 'runtime': 'runtime', 'deploy': 'lite,deploy', 'full': 'full,test', 'onedl': 'onedl,test'}
"""Name of a smoke test: the extras that its user installs."""
STACKS = ('full', 'onedl')
"""Those on which the script of `lite` and `STACK_TESTS` run."""
STACK_TESTS = (
    'test_parity_mmdet.py', 'test_parity_variants.py', 'test_packaging.py', 'test_private_api.py', 'test_import.py',
    'test_startup_mmyolo.py', 'test_startup_names.py', 'test_startup_signals.py', 'test_end_to_end.py',
    'compat', 'mmyolo_support',
)  # fmt: skip


def smoke(name: str, folder: Path) -> None:
    """Run one smoke test in `folder`, which is empty.

    Raises:
        CalledProcessError: if a step fails.
    """
    python = create_venv(folder / 'venv')
    env = clean_environment(PATH=f'{python.parent}{os.pathsep}{os.environ["PATH"]}', OMP_NUM_THREADS='1')
    work = folder / 'work'
    work.mkdir()

    def call(*command: object, **changes: str) -> None:
        print('$', *command, flush=True)
        subprocess.run([python, *map(str, command)], cwd=work, env=env | changes, check=True)

    pip = ('-m', 'pip', '--disable-pip-version-check')
    install = (*pip, 'install', '-q', '-c', REPO / 'constraints.txt')
    isolation = []
    if name == 'full':  # mmcv is compiled against the PyTorch that is installed
        call(*install, 'setuptools<81', 'wheel', 'ninja', 'torch')
        isolation = ['--no-build-isolation']
    call(*install, *isolation, f'{write_wheel(REPO / "dist")}[{EXTRAS[name]}]')
    call(*pip, 'check')
    if name == 'runtime':
        # onnx writes the model. It stays outside the environment, which must do without.
        call(*install, '--target', folder / 'onnx', 'onnx')
        call(TESTS / 'smoke' / 'write_model.py', 'model.onnx', PYTHONPATH=f'{folder / "onnx"}')
    call(TESTS / 'smoke' / f'{"lite" if name in STACKS else name}.py')
    if name in STACKS:
        call(*install, '--no-deps', '-r', REPO / 'mmyolo-requirements.txt')
        call(*install, 'prettytable')  # for mmyolo
        # Tests of the wheel create environments that see these packages, but must not see ours.
        call(*install, '--no-deps', '--no-build-isolation', '-e', REPO)
        call('-m', 'pytest', '-q', '-c', REPO / 'pyproject.toml', *(TESTS / part for part in STACK_TESTS))


def main() -> None:
    name = sys.argv[1] if len(sys.argv) == 2 else ''
    if name not in EXTRAS:
        raise SystemExit(f'smoke: EXTRA must be {" or ".join(EXTRAS)}, got {name!r}: make smoke EXTRA=runtime')
    with tempfile.TemporaryDirectory(prefix=f'rtmdet-smoke-{name}-') as folder:
        try:
            smoke(name, Path(folder))
        except subprocess.CalledProcessError as error:
            raise SystemExit(f'smoke: {name} failed in: {" ".join(map(str, error.cmd))}') from None
    print(f'smoke: {name} works')


if __name__ == '__main__':
    main()
