"""Freed memory of images stays in the process."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import rtmdet_plugin.transforms.kept_memory as kept_memory

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
