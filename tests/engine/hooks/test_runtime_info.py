"""The logged losses are exactly mmengine's, but the host waits less often for the device."""

import pytest
import torch


def history(runner) -> list[float]:
    values, _ = runner.message_hub.get_scalar('train/loss').data
    return values.tolist()


@pytest.fixture
def run(make_runner, monkeypatch):
    """Train four epochs of two iterations; return the logged losses, and how often the host read numbers."""

    def train(hook: str, interval: int = 50):
        torch.manual_seed(0)
        asked = []
        item, tolist = torch.Tensor.item, torch.Tensor.tolist
        hooks = dict(runtime_info=dict(type=hook), logger=dict(type='LoggerHook', interval=interval))
        runner = make_runner(hooks=hooks)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, 'item', lambda tensor: asked.append(1) or item(tensor))
            patch.setattr(torch.Tensor, 'tolist', lambda tensor: asked.append(1) or tolist(tensor))
            runner.train()
        return history(runner), len(asked)

    return train


@pytest.mark.parametrize('interval', [1, 50])
def test_the_losses_are_mmengines(run, interval):
    ours, _ = run('RTMRuntimeInfoHook', interval)
    theirs, _ = run('RuntimeInfoHook', interval)
    assert len(ours) == 8
    assert ours == pytest.approx(theirs)


def test_the_host_waits_once_a_line(run):
    _, ours = run('RTMRuntimeInfoHook')
    _, theirs = run('RuntimeInfoHook')
    assert ours <= theirs - 4, 'once an epoch of two iterations instead of once an iteration'
