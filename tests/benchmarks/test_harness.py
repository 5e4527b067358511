"""benchmarks/harness.py and results.py: what is measured, how conditions are made, what results say of the machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import harness
import pytest
import results
from harness import Cost, Parts, busy_cores, compare, costs, milliseconds, peak_resident


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(harness, 'PAUSE', 0)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_wall_clock_and_cpu_time_differ():
    taken = costs(dict(sleeps=lambda: time.sleep(0.05), burns=lambda: burn(0.05)), repeats=2)
    assert all(cost.wall >= 0.05 > 0.02 > cost.cpu for cost in taken['sleeps']) and len(taken['sleeps']) == 2
    assert all(cost.cpu >= 0.05 for cost in taken['burns'])


def test_ended_child_processes_count():
    child = 'import time\nwhile time.process_time() < 0.1: pass'
    assert harness.cost_of(lambda: subprocess.run([sys.executable, '-I', '-S', '-c', child], check=True)).cpu >= 0.1


def test_new_memory_is_counted():
    size = 64 * 2**20
    faults = harness.cost_of(lambda: b'x' * size).faults  # written, because untouched memory isn't mapped
    assert faults >= size // 2**21  # pages of 2 MB at most


def test_resident_memory_does_not_depend_on_the_call_before():
    pieces = lambda: [bytearray(2**16) for _ in range(2**10)]  # noqa: E731  small enough for the allocator to keep them
    grown = [peak_resident(pieces) for _ in range(2)]
    assert grown == ['not measured'] * 2 or (60 < min(grown) <= max(grown) < 80)


def test_parts_are_summed():
    parts = Parts()
    for _ in range(2):
        with parts.part('a'):
            time.sleep(0.02)
        with parts.part('b'):
            pass
    assert 0.04 <= parts['a'].wall < 1 and parts['b'].wall < 0.02


def test_median_and_spread():
    taken = [Cost(0.003, 0.001), Cost(0.001, 0.005), Cost(0.002, 0.003)]
    assert milliseconds(taken, 'ours ') == {'ours ms': 2, 'ours ms min': 1, 'ours ms max': 3, 'ours CPU ms': 3}
    assert compare([4, 9, 4], [2, 3, 4]) == dict(ratio=2, ratio_range=[1, 3])


def running(parent: int) -> int:
    """Number of children of this process that spin for `parent`."""
    found = 0
    for file in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = file.read_bytes().split(b'\0')
        except OSError:
            continue
        found += harness.SPIN.encode() in words and str(parent).encode() in words
    return found


def test_busy_cores_end_with_the_block_and_with_their_parent():
    with busy_cores(0) as condition:
        assert condition == 'idle'
    with pytest.raises(KeyboardInterrupt), busy_cores(2) as condition:
        assert condition == '2 busy cores'
        end = time.monotonic() + 10
        while running(os.getpid()) < 2:
            assert time.monotonic() < end
        raise KeyboardInterrupt
    assert running(os.getpid()) == 0
    # As after a kill of the parent: the child of another process than that in its argument.
    subprocess.run([sys.executable, '-I', '-S', '-c', harness.SPIN, '0'], check=True, timeout=20)


@pytest.mark.parametrize(
    ('name', 'features', 'kind'),
    [
        ('AMD EPYC 9R14 96-Core Processor', ['AVX2', 'AVX512', 'AVX512-BF16'], 'epyc-avx512'),
        ('Intel(R) Xeon(R) Platinum 8488C', ['AVX2', 'AVX512', 'AMX-BF16'], 'xeon-amx'),
        ('Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz', ['AVX2'], 'core-avx2'),
        ('aarch64', ['NEON'], 'aarch64-neon'),
        ('', [], 'cpu'),
    ],
)
def test_kind_of_a_processor(name, features, kind):
    assert results.cpu_kind(name, features) == kind


def test_results_say_on_which_machine_and_nothing_about_its_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, 'RESULTS', tmp_path)
    monkeypatch.setenv(results.ISA, 'AVX2')
    monkeypatch.setattr(sys, 'argv', ['/home/me/benchmarks/step.py', 's', '--data', '/home/me/coco'])
    results.report('step', [dict(ms=1.23456, ms_max=2.0)], ['ms'])
    (file,) = tmp_path.iterdir()
    assert file.name.startswith(f'step_{results.DEVICE}_')
    assert file.stem.endswith('-max-avx2') == (results.DEVICE == 'cpu')
    content = json.loads(file.read_text())
    assert content['rows'] == [dict(ms=1.23456, ms_max=2.0)] and '1.235' in capsys.readouterr().out
    assert content['command'] == 'python benchmarks/step.py s --data coco'
    machine = content['machine']
    assert machine['cores'] >= 1 and machine['threads'] == 1 and machine[results.ISA] == 'AVX2'
    assert {'torch', 'mmdet', 'numpy', 'python', 'rtmdet_plugin'} <= machine['versions'].keys()
    assert str(Path.cwd()) not in file.read_text() and str(Path.home()) + '/' not in file.read_text()
    results.report('quick', [dict(ms=1.0)], save=False)
    assert len(list(tmp_path.iterdir())) == 1
