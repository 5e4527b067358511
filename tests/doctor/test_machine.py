"""What the doctor says about machines of several kinds."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from rtmdet_plugin.doctor import machine

GIB = 2**30


@pytest.fixture
def findings(monkeypatch, tmp_path):
    """A function that returns the findings on a machine, by kind."""

    def get(driver=False, cuda=None, flags=(), load=0.0, memory=8 * GIB, disk=8 * GIB, shm=8 * GIB) -> dict:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
        monkeypatch.setattr(torch.version, 'cuda', cuda)
        monkeypatch.setattr(shutil, 'which', lambda name: '/usr/bin/nvidia-smi' if driver else None)
        monkeypatch.setattr(machine, 'cpu_flags', lambda: {*flags})
        monkeypatch.setattr(machine.os, 'getloadavg', lambda: (load, 0, 0))
        monkeypatch.setattr(machine, 'available_cores', lambda: 4)
        monkeypatch.setattr(machine, 'free_memory', lambda: memory)
        monkeypatch.setattr(machine.os.path, 'isdir', lambda path: True)
        usage = {'/dev/shm': SimpleNamespace(total=shm), tmp_path: SimpleNamespace(free=disk)}
        monkeypatch.setattr(shutil, 'disk_usage', usage.__getitem__)
        return {finding.kind: finding for finding in machine.check_machine(tmp_path)}

    return get


def test_a_machine_without_problems(findings):
    found = findings(flags=['amx_bf16'], memory=None)
    assert list(found) == ['gpu'] and found['gpu'].severity == 'note' and 'emulated' not in found['gpu'].text


def test_each_problem(findings):
    assert 'built without CUDA' in findings(driver=True)['gpu'].text
    assert 'finds no GPU' in findings(driver=True, cuda='13.0')['gpu'].text
    assert 'emulated' in findings()['gpu'].text
    assert 'its load is 2.5 on 4 cores' in findings(load=2.5)['load'].text
    assert '1.0 GiB of memory are free; a training needs 2.0 GiB' in findings(memory=GIB)['memory'].text
    assert '1.0 GiB of disk are free in' in findings(disk=GIB)['disk'].text
    assert 'only 64 MiB' in findings(shm=2**26)['shared memory'].text


def test_features_of_the_processor(tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n')
    assert machine.cpu_flags(file) == {'fpu', 'avx2', 'amx_bf16'}
    assert machine.cpu_flags(tmp_path / 'none') == set()


def test_facts(tmp_path):
    facts = machine.machine_facts(tmp_path)
    assert torch.__version__ in facts['PyTorch'] and str(tmp_path) in facts['free disk']
