"""Examine the machine: processor, GPU, memory, disk, and the installed packages."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch

from rtmdet_runtime.cpu_cores import available_cores

from ..engine.hooks.before_run.free_memory import free_memory
from ..engine.hooks.before_run.run_findings import gib
from .finding import Finding

CPU_FLAGS = dict(
    avx2='AVX2',
    avx512f='AVX512',
    avx512_vnni='AVX512-VNNI',
    avx_vnni='AVX-VNNI',
    avx512_bf16='AVX512-BF16',
    amx_bf16='AMX-BF16',
    amx_int8='AMX-INT8',
    asimd='NEON',
    bf16='BF16',
    i8mm='I8MM',
)
"""Flag in /proc/cpuinfo, of x86 or ARM: name."""
BFLOAT16 = ('avx512_bf16', 'amx_bf16', 'bf16')
ENOUGH = 2 * 2**30
"""Free memory and disk space in bytes below which a training of RTMDet-tiny may not fit."""
SHARED_MEMORY = 256 * 2**20
"""Size of /dev/shm in bytes below which the queue of a few workers may not fit; Docker's default is 64 MiB."""


def machine_facts(folder: Path) -> dict[str, str]:
    """Return what a training depends on.

    Args:
        folder: folder on the disk that the training writes to.
    """
    free = free_memory()
    facts = {
        'Python': f'{platform.python_version()} on {platform.system()} {platform.machine()}',
        'PyTorch': f'{torch.__version__}, {"CUDA " + torch.version.cuda if torch.version.cuda else "without CUDA"}',
        'GPU': '; '.join(gpus()) or 'none that PyTorch can use',
        'CPU': cpu_name(),
        'CPU features': ', '.join(cpu_features()) or 'unknown',
        'cores': f'{available_cores()} of {os.cpu_count()}',
        'free memory': 'unknown' if free is None else gib(free),
        'free disk': f'{gib(shutil.disk_usage(folder).free)} in {folder}',
        'OpenCV': f'{cv2.__version__}, {cv2.getNumThreads()} threads',
    }
    if hasattr(os, 'getloadavg'):
        facts['load'] = f'{os.getloadavg()[0]:.1f}'
    return facts


def check_machine(folder: Path) -> Iterator[Finding]:
    """Yield what will slow down or stop a training.

    Args:
        folder: folder on the disk that the training writes to.
    """
    if not torch.cuda.is_available():
        nvidia = Path('/proc/driver/nvidia/version').exists() or shutil.which('nvidia-smi') is not None
        if nvidia and not torch.version.cuda:
            text = 'PyTorch was built without CUDA, but the machine has an NVIDIA driver; install a build with CUDA'
            yield Finding('gpu', 'warning', f'{text} (https://pytorch.org/get-started)')
        elif nvidia:
            text = 'PyTorch finds no GPU, although there is an NVIDIA driver; check nvidia-smi and CUDA_VISIBLE_DEVICES'
            yield Finding('gpu', 'warning', text)
        else:
            slow = '' if cpu_flags() & {*BFLOAT16} else ', and bfloat16 (--amp) is emulated, so it is slow'
            yield Finding('gpu', 'note', f'there is no GPU, so training runs on the CPU{slow}')
    cores = available_cores()
    if hasattr(os, 'getloadavg') and (load := os.getloadavg()[0]) > cores / 2:
        text = f'other programs use the machine: its load is {load:.1f} on {cores} cores, so a training will be slower'
        yield Finding('load', 'note', text)
    for name, free in (('memory', free_memory()), ('disk', shutil.disk_usage(folder).free)):
        if free is not None and free < ENOUGH:
            where = f' in {folder}' if name == 'disk' else ''
            yield Finding(name, 'warning', f'{gib(free)} of {name} are free{where}; a training needs {gib(ENOUGH)}')
    if os.path.isdir('/dev/shm') and (size := shutil.disk_usage('/dev/shm').total) < SHARED_MEMORY:
        text = f'shared memory (/dev/shm) has only {gib(size)}, so workers may end with a bus error'
        yield Finding('shared memory', 'warning', f'{text}; with Docker, set --shm-size=2g')


def cpu_flags(cpuinfo: Path = Path('/proc/cpuinfo')) -> set[str]:
    """Return the features of the processor as Linux names them; empty on other systems."""
    return set(_cpuinfo(cpuinfo, ('flags', 'Features')).split())


def cpu_features() -> list[str]:
    """Return the names of the processor's features that `CPU_FLAGS` has."""
    flags = cpu_flags()
    return [name for flag, name in CPU_FLAGS.items() if flag in flags]


def cpu_name() -> str:
    """Return the model of the processor, or its architecture if the system doesn't say."""
    return _cpuinfo(Path('/proc/cpuinfo'), ('model name',)) or platform.processor() or platform.machine()


def _cpuinfo(file: Path, names: tuple[str, ...]) -> str:
    try:
        lines = file.read_text(errors='replace').splitlines()
    except OSError:
        return ''
    pairs = (line.partition(':')[::2] for line in lines)
    return next((value.strip() for name, value in pairs if name.strip() in names), '')


def gpus() -> Iterator[str]:
    """Yield the name, memory and compute capability of each GPU that PyTorch can use."""
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        version = f'{properties.major}.{properties.minor}'
        yield f'{properties.name}, {gib(properties.total_memory)}, compute capability {version}'
