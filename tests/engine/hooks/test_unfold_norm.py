"""A folded norm gets statistics, and its function stays the same, also in training."""

import json
import logging
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rtmdet_plugin.engine.hooks import RTMUnfoldNormHook
from rtmdet_plugin.engine.hooks.unfold_norm import is_folded


class Net(nn.Module):
    """Two convolutions; the first norm is folded, the second one is new."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)
        self.conv1.weight.data.mul_(30)
        self.bn1.bias.data.normal_()
        self.bn1.running_var.fill_(1 - self.bn1.eps)

    def data_preprocessor(self, data, training):
        return data

    def forward(self, inputs, mode='tensor'):
        return self.bn2(self.conv2(self.bn1(self.conv1(inputs)).relu()))

    def first(self, inputs):
        return self.bn1(self.conv1(inputs)).relu()


def run(model, batches, num_batches=4):
    loop = SimpleNamespace(dataloader=[dict(inputs=batch) for batch in batches])
    RTMUnfoldNormHook(num_batches).before_train(
        SimpleNamespace(model=model, train_loop=loop, logger=logging.getLogger('unfold'))
    )


@pytest.fixture
def setup():
    torch.manual_seed(0)
    return Net(), list(torch.rand(4, 4, 3, 20, 20))


def test_function_stays_in_evaluation_and_now_in_training(setup):
    model, batches = setup
    inputs = torch.cat(batches)
    model.eval()
    before = model.first(inputs)
    model.train()
    mangled = model.first(inputs)
    model.bn1.running_mean.zero_()
    model.bn1.running_var.fill_(1 - model.bn1.eps)
    assert (mangled - before).abs().max() > 1  # without the hook the function changes
    run(model, batches)
    assert model.training
    torch.testing.assert_close(model.first(inputs), before, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(model.eval().first(inputs), before, rtol=1e-4, atol=1e-4)


def test_other_norms_are_left_alone_and_a_second_call_changes_nothing(setup):
    model, batches = setup
    fresh = {name: value.clone() for name, value in model.bn2.state_dict().items()}
    assert is_folded(model.bn1) and not is_folded(model.bn2)
    run(model, batches)
    assert all(torch.equal(value, fresh[name]) for name, value in model.bn2.state_dict().items())
    once = {name: value.clone() for name, value in model.state_dict().items()}
    assert not is_folded(model.bn1)
    run(model, batches[::-1])
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())


def test_fewer_batches_than_asked_for(setup):
    model, batches = setup
    run(model, batches[:1], num_batches=8)
    assert not is_folded(model.bn1)


def test_number_of_batches_is_checked():
    with pytest.raises(ValueError, match='num_batches must be at least 1, got 0'):
        RTMUnfoldNormHook(0)


# Each process measures images of another brightness. The reference is one process with the batches of both.
RANKS = """
import json, logging, sys
from types import SimpleNamespace
import torch
from mmengine.dist import init_dist
from rtmdet_plugin.engine.runner import RTMDistributedDataParallel
from rtmdet_plugin.engine.hooks import RTMUnfoldNormHook

torch.manual_seed(0)
class Net(torch.nn.Sequential):
    def data_preprocessor(self, data, training):
        return data

    def forward(self, inputs, mode):
        return super().forward(inputs)

model = Net(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))
model[1].bias.data.normal_()
model[1].running_var.fill_(1 - model[1].eps)
batches = [dict(inputs=torch.rand(2, 3, 8, 8) * (1 + i % 2)) for i in range(8)]
rank = 0
if sys.argv[2] == 'distributed':
    init_dist('pytorch', backend='gloo')
    rank = torch.distributed.get_rank()
    batches = batches[rank::2]
    model = RTMDistributedDataParallel(model)
runner = SimpleNamespace(model=model, train_loop=SimpleNamespace(dataloader=batches), logger=logging.getLogger())
RTMUnfoldNormHook(len(batches)).before_train(runner)
state = {name.removeprefix('module.'): value.flatten().tolist() for name, value in model.state_dict().items()}
with open(f'{sys.argv[1]}/{sys.argv[2]}{rank}.json', 'w') as file:
    json.dump(state, file)
"""


def test_several_processes_write_the_same(tmp_path, monkeypatch, run_two_ranks):
    script = tmp_path / 'ranks.py'
    script.write_text(RANKS)
    monkeypatch.setattr(sys, 'argv', [str(script), str(tmp_path), 'single'])
    runpy.run_path(str(script))
    run_two_ranks(script, tmp_path, 'distributed')
    single, first, second = (
        json.loads((tmp_path / f'{name}.json').read_text()) for name in ('single0', 'distributed0', 'distributed1')
    )
    assert first == second
    assert first.keys() == single.keys() and first['1.running_mean'] != [0, 0]
    for name, value in single.items():
        assert first[name] == pytest.approx(value, rel=1e-5), name
