"""Tensors and meta survive a round trip through a `.safetensors` file, also with mmengine's loader."""

import sys

import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from rtmdet_plugin.compat.safetensors_file import dump_safetensors, load_safetensors

pytest.importorskip('safetensors')
META = dict(dataset_meta=dict(classes=['cat', 'dog']), cfg='a = 1\n')


@pytest.fixture
def path(tmp_path):
    linear = nn.Linear(2, 3)
    state = dict(a=linear.weight, same=linear.weight, turned=torch.arange(6).reshape(2, 3).T, half=torch.ones(1).half())
    target = tmp_path / 'x.safetensors'
    target.write_bytes(dump_safetensors(state, META))
    return target, state


def test_round_trip(path):
    target, state = path
    loaded = CheckpointLoader.load_checkpoint(str(target), map_location='cpu')
    assert loaded['meta'] == dict(META, format='pt')
    assert loaded['state_dict'].keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(loaded['state_dict'][name], value) and loaded['state_dict'][name].dtype == value.dtype


def test_a_model_loads_it(tmp_path):
    source, model = nn.Linear(2, 3), nn.Linear(2, 3)
    (tmp_path / 'x.safetensors').write_bytes(dump_safetensors(source.state_dict(), {}))
    load_checkpoint(model, str(tmp_path / 'x.safetensors'), strict=True)
    assert torch.equal(model.weight, source.weight) and torch.equal(model.bias, source.bias)


def test_a_cut_off_file_is_named(path):
    target, _ = path
    target.write_bytes(target.read_bytes()[:-3])
    with pytest.raises(ValueError, match='x.safetensors is cut off'):
        load_safetensors(str(target))


def test_a_missing_file_and_a_url_are_named(tmp_path):
    for name in (str(tmp_path / 'gone.safetensors'), 'https://example.com/x.safetensors'):
        with pytest.raises(FileNotFoundError, match=f'{name}.*local path'):
            load_safetensors(name)


def test_without_the_package(path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match='pip install safetensors'):
        load_safetensors(str(path[0]))
    with pytest.raises(ImportError, match='pip install safetensors'):
        dump_safetensors({}, {})
