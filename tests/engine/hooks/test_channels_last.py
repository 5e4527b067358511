"""The memory order changes, the values don't."""

from types import SimpleNamespace

import torch
from torch import nn

from rtmdet_plugin.engine.hooks import RTMChannelsLastHook


def test_weights_change_order_and_outputs_do_not():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 4, 1))
    image = torch.rand(2, 3, 16, 16)
    before, parameters = model(image), list(model.parameters())
    RTMChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not model[0].weight.is_contiguous()
    after = model(image)  # an image in the default order
    assert after.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    assert all(old is new for old, new in zip(parameters, model.parameters(), strict=True))  # the optimiser's


def test_a_model_on_a_gpu_may_be_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, device='meta'))
    RTMChannelsLastHook(only_on_cpu=True).before_run(SimpleNamespace(model=model))
    assert not model[0].weight.is_contiguous(memory_format=torch.channels_last)
    RTMChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_it_comes_before_the_averaged_copy():
    assert RTMChannelsLastHook.priority == 'HIGH'  # 30; the configs' EMA hook has 49
