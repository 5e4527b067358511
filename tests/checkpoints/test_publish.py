"""A published checkpoint holds the averaged weights and the classes, and no other training state."""

import shutil

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from rtmdet_plugin.checkpoints.publish import publish

META = dict(dataset_meta=dict(classes=('cat', 'dog')), cfg='a = 1\n', epoch=3, iter=30, mmengine_version='0.10.7')


@pytest.fixture
def source(tmp_path):
    """A checkpoint as mmengine saves it with an EMA: the averaged weights are the `state_dict`."""
    averaged, own = nn.Linear(2, 3), nn.Linear(2, 3)
    checkpoint = dict(
        meta=dict(META, time='20250101_000000', experiment_name='mine', seed=1),
        state_dict=averaged.state_dict(),
        ema_state_dict={f'module.{name}': value for name, value in own.state_dict().items()},
        optimizer=dict(state={0: torch.zeros(10**5)}),
        message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.0], [1]))),
    )
    torch.save(checkpoint, tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth', averaged


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_averaged_weights_classes_and_nothing_else(source, tmp_path, suffix):
    if suffix == '.safetensors':
        pytest.importorskip('safetensors')
    path, averaged = source
    target = tmp_path / 'out' / f'cats{suffix}'
    done = publish(path, target)
    assert (done.path, done.tensors, done.averaged) == (target, 2, True)
    loaded = CheckpointLoader.load_checkpoint(str(target), map_location='cpu')
    assert loaded.keys() == {'meta', 'state_dict'}
    loaded['meta'].pop('format', None)
    assert loaded['meta'] == META | dict(dataset_meta=dict(classes=loaded['meta']['dataset_meta']['classes']))
    assert tuple(loaded['meta']['dataset_meta']['classes']) == ('cat', 'dog')
    model = nn.Linear(2, 3)
    load_checkpoint(model, str(target), strict=True)
    assert torch.equal(model.weight, averaged.weight)
    assert target.stat().st_size < path.stat().st_size / 10


def test_a_run_without_an_ema(tmp_path):
    torch.save(dict(state_dict=nn.Linear(1, 1).state_dict()), tmp_path / 'x.pth')
    assert not publish(tmp_path / 'x.pth', tmp_path / 'y.pth').averaged


def test_bare_weights(tmp_path):
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / 'x.pth')
    assert publish(tmp_path / 'x.pth', tmp_path / 'y.pth').tensors == 2


def test_a_palette_of_numpy(tmp_path):
    pytest.importorskip('safetensors')
    meta = dict(dataset_meta=dict(classes=('a',), palette=np.array([[1, 2, 3]])))
    torch.save(dict(state_dict=nn.Linear(1, 1).state_dict(), meta=meta), tmp_path / 'x.pth')
    publish(tmp_path / 'x.pth', tmp_path / 'y.safetensors')
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'y.safetensors'))
    assert loaded['meta']['dataset_meta'] == dict(classes=['a'], palette=[[1, 2, 3]])


def test_what_is_refused(source, tmp_path):
    path, _ = source
    with pytest.raises(ValueError, match=r'y.onnx must end in .safetensors, .pth, got .onnx'):
        publish(path, tmp_path / 'y.onnx')
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    for name in ('empty.pth', 'list.pth'):
        with pytest.raises(ValueError, match=f'{name} holds no weights'):
            publish(tmp_path / name, tmp_path / 'y.pth')
    torch.save(dict(state_dict=dict(a=torch.tensor([1, float('nan')]))), tmp_path / 'nan.pth')
    with pytest.raises(ValueError, match=r'nan.pth: weights must be finite, .* in 1 of 1 tensors: a \(1 of 2 values\)'):
        publish(tmp_path / 'nan.pth', tmp_path / 'y.pth')
    assert not (tmp_path / 'y.pth').exists()


def test_no_checkpoint_of_a_training_is_replaced(source, tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    path, _ = source
    (tmp_path / 'link.pth').symlink_to('epoch_3.pth')
    shutil.copy(path, tmp_path / 'epoch_2.pth')
    save_file(dict(a=torch.zeros(1)), tmp_path / 'others.safetensors', dict(format='pt'))
    (tmp_path / 'text.pth').write_text('no checkpoint')
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for name, said in (
        ('epoch_3.pth', 'would replace the input'),
        ('link.pth', 'would replace the input'),
        ('epoch_2.pth', 'a file that rtmdet publish did not write'),
        ('text.pth', 'a file that rtmdet publish did not write'),
        ('others.safetensors', 'a file that rtmdet publish did not write'),
    ):
        with pytest.raises(ValueError, match=said):
            publish(path, tmp_path / name)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    for _ in range(2):  # a file that `publish` wrote may be replaced
        publish(path, tmp_path / 'cats.pth')
        publish(path, tmp_path / 'cats.safetensors')
