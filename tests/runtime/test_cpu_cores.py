"""Cores that this process may use, and those that other processes leave free."""

import os
import subprocess
import sys
import time

import pytest

from rtmdet_runtime import cpu_cores
from rtmdet_runtime.cpu_cores import Cores, available_cores, free_threads, measure_cores, physical_cores

SPIN = 'import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass'


@pytest.mark.parametrize(
    ('files', 'cores'),
    [
        ({}, 4),
        ({'cpu.max': 'max 100000'}, 4),
        ({'cpu.max': '250000 100000'}, 3),
        ({'cpu.max': '20000 100000'}, 1),
        ({'cpu.max': '900000 100000'}, 4),
        ({'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, 4),
        ({'cpu/cpu.cfs_quota_us': '200000', 'cpu/cpu.cfs_period_us': '100000'}, 2),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 1, 2, 3}, raising=False)
    for name, text in files.items():
        file = tmp_path / 'sys/fs/cgroup' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + '\n')
    assert available_cores(tmp_path) == cores


def test_free_cores_are_rounded_and_never_none():
    assert [Cores(4, 4, used).free for used in (0, 0.4, 0.6, 1.4, 4)] == [4, 4, 3, 3, 1]
    assert [Cores(64, 4, used).free for used in (20, 61, 64)] == [4, 3, 1], 'a container on a large machine'


def test_threads_of_one_physical_core_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 1, 2}, raising=False)
    assert physical_cores(tmp_path) == 3, 'unknown'
    for core, siblings in enumerate(('0,2', '1,3', '0,2')):
        file = tmp_path / f'sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list'
        file.parent.mkdir(parents=True)
        file.write_text(siblings + '\n')
    assert physical_cores(tmp_path) == 2


def test_the_use_of_other_processes_is_measured_and_not_that_of_this_one(monkeypatch):
    times = {'before': '10 0 10 100 0 0 0 0', 'after': '60 0 10 150 0 0 0 0'}  # one core: half of it is used
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {1}, raising=False)
    monkeypatch.setattr(cpu_cores, 'available_cores', lambda: 1)
    reads = iter([f'cpu  1 1 1 1\ncpu0 9 9 9 9 9 9 9 9\ncpu1 {line} 0 0\nintr 5\n' for line in times.values()] * 2)
    monkeypatch.setattr(cpu_cores.Path, 'read_text', lambda path: next(reads))
    clock = iter([0.0, 1.0, 0.0, 1.0])
    monkeypatch.setattr(time, 'perf_counter', lambda: next(clock))
    own = iter([0.0, 0.0, 0.0, 0.5])
    monkeypatch.setattr(time, 'process_time', lambda: next(own))
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)
    assert measure_cores().used == 0.5
    assert measure_cores().used == 0.0, 'this process used the core'


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux has /proc/stat')
def test_a_busy_process_is_seen():
    with subprocess.Popen([sys.executable, '-I', '-S', '-c', SPIN, str(os.getpid())]) as spinning:
        try:
            time.sleep(0.2)
            used = max(measure_cores().used for _ in range(3))
        finally:
            spinning.kill()
    assert used > 0.3  # less than 1 if the tests beside it take the core


def test_without_linux_nothing_is_measured(monkeypatch):
    monkeypatch.delattr(os, 'sched_getaffinity', raising=False)
    assert measure_cores(0).used == 0 and available_cores() >= 1


def test_threads_follow_the_free_cores_unless_the_user_has_chosen(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    cores, physical = Cores(8, 8, 3.2), 8
    monkeypatch.setattr(cpu_cores, 'measure_cores', lambda: cores)
    monkeypatch.setattr(cpu_cores, 'physical_cores', lambda: physical)
    assert free_threads() == 5
    physical = 4
    assert free_threads() == 4
    cores = Cores(8, 8, 0.2)
    assert free_threads() is None, 'the default of the backend'
    cores = Cores(8, 8, 3.2)
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    assert free_threads() is None
