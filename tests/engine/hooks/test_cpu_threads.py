"""The number of threads of a run on a CPU."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rtmdet_plugin.engine.hooks import RTMChannelsLastHook, RTMCPUThreadsHook, RTMKeptMemoryHook, cpu_threads
from rtmdet_runtime.cpu_cores import Cores


@pytest.fixture
def run(monkeypatch):
    """Start a run with 8 threads, and return the number of threads afterwards and the logged lines."""
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    before = torch.get_num_threads()

    def call(cores: int, used: float) -> tuple[int, str]:
        lines: list[str] = []
        monkeypatch.setattr(cpu_threads, 'measure_cores', lambda seconds: Cores(cores, cores, used))
        torch.set_num_threads(8)
        hook = RTMCPUThreadsHook()
        runner = SimpleNamespace(model=nn.Linear(1, 1), logger=SimpleNamespace(info=lines.append))
        hook.before_train(runner)
        hook.before_val(runner)  # a validation within the training
        assert len(lines) < 2 and all(
            line == f'CPU threads: {hook.reason}. OMP_NUM_THREADS changes this.' for line in lines
        )
        return torch.get_num_threads(), hook.reason

    yield call
    torch.set_num_threads(before)


def test_the_cores_of_other_programs_are_left_to_them(run):
    assert run(cores=8, used=3.04) == (5, '5; of 8 cores, other programs use 3.0')
    assert run(cores=2, used=1.9)[0] == 1
    assert run(cores=64, used=2)[0] == 8, 'never more than before'


@pytest.mark.parametrize(
    ('resume', 'stored', 'env', 'threads'),
    [(True, 3, None, 3), (False, 3, None, 4), (True, 9, None, 4), (True, 'a', None, 4), (True, 3, '2', 4)],
)
def test_a_resumed_run_has_the_threads_of_its_checkpoint(monkeypatch, run, resume, stored, env, threads):
    monkeypatch.setattr(cpu_threads, 'available_cores', lambda: 8)
    checkpoint = dict(meta={})
    hook = RTMCPUThreadsHook()
    torch.set_num_threads(3)
    hook.before_save_checkpoint(None, checkpoint)
    assert checkpoint['meta'] == dict(cpu_threads=3)
    checkpoint['meta']['cpu_threads'] = stored
    if env:
        monkeypatch.setenv('OMP_NUM_THREADS', env)
    torch.set_num_threads(4)
    logger = SimpleNamespace(info=lambda line: None)
    hook.after_load_checkpoint(SimpleNamespace(_resume=resume, model=nn.Linear(1, 1), logger=logger), checkpoint)
    assert torch.get_num_threads() == threads
    assert hook.reason == ('3; as in the checkpoint, so that the run continues exactly' if threads == 3 else '')


def test_nothing_changes_on_free_cores_or_if_the_user_has_chosen(run, monkeypatch):
    assert run(cores=8, used=0.3) == (8, '8; enough cores are free')
    monkeypatch.setenv('OMP_NUM_THREADS', '8')
    assert run(cores=8, used=4) == (8, '8; OMP_NUM_THREADS is set')


def test_the_hooks_of_cpus_ignore_a_model_without_weights():
    """mmdeploy tests an exported model with the hooks of the config."""
    runner = SimpleNamespace(model=nn.Identity())
    assert not cpu_threads.on_cpu(runner) and cpu_threads.on_cpu(SimpleNamespace(model=nn.Linear(1, 1)))
    RTMChannelsLastHook(only_on_cpu=True).before_run(runner)
    RTMKeptMemoryHook().before_run(runner)
    RTMCPUThreadsHook().before_test(runner)
