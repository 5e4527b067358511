"""Freed memory of images stays in the process."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import rtmdet_plugin.kept_memory as kept_memory

SCRIPT = """
import resource, runpy, sys
import numpy as np

keep_freed_memory = runpy.run_path(sys.argv[1])['keep_freed_memory']
if sys.argv[2] == 'keep':
    keep_freed_memory()

def images():
    return [np.ones((640, 640, 3), np.uint8) for _ in range(5)]

images(), images()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    images()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other allocators have other rules')
def test_images_get_the_pages_of_earlier_images():
    def faults(mode):
        command = [sys.executable, '-c', SCRIPT, str(Path(kept_memory.__file__)), mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env={}).stdout)

    assert faults('keep') < 1000 < faults('as by default')


STEPS = """
import os, resource, sys
import numpy as np
from rtmdet_plugin.kept_memory import keep_all_freed_memory

if sys.argv[1] == 'keep':
    print(keep_all_freed_memory(), end=' ')

def faults(size):
    def step():
        return [np.ones(size, np.uint8) for _ in range(3)]

    step(), step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

TENSOR, IMAGE = 40 * 2**20, 2**20  # glibc maps the first separately
print(faults(TENSOR), flush=True)
if not os.fork():
    print(faults(TENSOR), faults(IMAGE), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other allocators have other rules')
def test_a_step_gets_the_pages_of_the_step_before_but_not_in_child_processes():
    def run(mode, **env):
        command = [sys.executable, '-c', STEPS, mode]
        path = str(Path(kept_memory.__file__).parents[1])
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(PYTHONPATH=path, **env))
        return done.stdout.split()

    kept, *faults = run('keep')
    of_tensors, of_tensors_in_child, of_images_in_child = map(int, faults)
    assert kept == 'True' and of_tensors < 1000 < of_tensors_in_child and of_images_in_child < 1000
    assert min(map(int, run('as by default')[:2])) > 1000
    assert run('keep', MALLOC_TRIM_THRESHOLD_='131072')[0] == 'False', 'the user has chosen'
