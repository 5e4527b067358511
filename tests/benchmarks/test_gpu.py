"""benchmarks/gpu.py: one failing part doesn't lose the others; without a GPU, all parts run in a dry run."""

import subprocess
import sys
import time

import gpu
import pytest
import torch
from gpu_wheels import CONSTRAINTS, normalised, write_stand_in
from packaging.specifiers import SpecifierSet
from packaging.version import Version


def test_parts_end_within_ten_minutes():
    *limits, _ = (limit for limit, _ in gpu.PARTS.values())  # the last one has the time that is left
    assert sum(limits) < 9 * 60
    scripts = {arguments.split()[0] for _, arguments in gpu.PARTS.values()} - {'-m'}
    assert scripts and all((gpu.ROOT / script).is_file() for script in scripts)


def test_a_part_that_fails_or_hangs_is_reported_and_killed():
    assert gpu.run(['-c', 'pass'], 20) == 'done'
    assert gpu.run(['-c', 'raise SystemExit(3)'], 20) == 'failed'
    start = time.monotonic()
    assert gpu.run(['-c', 'import time; time.sleep(60)'], 0.3) == 'time limit'
    assert time.monotonic() - start < 20


def test_the_tests_that_need_a_gpu_are_found():
    files = gpu.gpu_tests()
    assert {'tests/test_gpu.py', 'tests/inference/test_predictor.py', 'tests/tensorrt/test_on_gpu.py'} <= set(files)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['gpu.py'])
    with pytest.raises(SystemExit, match='--dry-run'):
        gpu.main()


@pytest.mark.slow
def test_dry_run():
    command = [sys.executable, 'benchmarks/gpu.py', '--dry-run', '--minutes', '20']
    done = subprocess.run(command, cwd=gpu.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('│ done') == len(gpu.PARTS)


def test_pip_takes_the_stand_in_for_pytorch(tmp_path):
    write_stand_in(tmp_path, CONSTRAINTS.read_text())
    (wheel,) = tmp_path.iterdir()
    version = Version(wheel.name.split('-')[1])
    assert version in SpecifierSet(f'=={torch.__version__.split("+")[0]}') and version > Version(version.base_version)
    assert normalised('Opencv-Python') == normalised('opencv_python') == 'opencv_python'
