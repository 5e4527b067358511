"""The number of threads of a training on a CPU."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rtmdet_plugin.engine.hooks import RTMCPUThreadsHook, cpu_threads


@pytest.fixture
def train(monkeypatch):
    """Start a training with 8 threads, and return the number of threads afterwards and the logged lines."""
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    before = torch.get_num_threads()

    def call(cores: int, workers: int) -> tuple[int, list[str]]:
        lines: list[str] = []
        monkeypatch.setattr(cpu_threads, 'available_cores', lambda: cores)
        torch.set_num_threads(8)
        RTMCPUThreadsHook().before_train(
            SimpleNamespace(
                train_dataloader=SimpleNamespace(num_workers=workers),
                model=nn.Linear(1, 1),
                logger=SimpleNamespace(info=lines.append),
            )
        )
        return torch.get_num_threads(), lines

    yield call
    torch.set_num_threads(before)


def test_a_core_is_left_to_the_processes_that_load_images(train):
    threads, (line,) = train(cores=8, workers=4)
    assert threads == 7 and line.startswith('CPU threads: 7; of 8 cores, one is left to the 4 processes')
    assert train(cores=1, workers=1)[0] == 1
    assert train(cores=64, workers=1)[0] == 8, 'never more than before'


def test_nothing_changes_without_such_processes_or_if_the_user_has_chosen(train, monkeypatch):
    assert train(cores=8, workers=0) == (8, [])
    monkeypatch.setenv('OMP_NUM_THREADS', '8')
    assert train(cores=8, workers=2) == (8, [])
