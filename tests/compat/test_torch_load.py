"""A checkpoint of mmengine's Runner loads with `weights_only=True`; code in a checkpoint is refused by name."""

import io
import os
import pickle
import shutil
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.config.lazy import LazyObject
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint

from rtmdet_plugin.compat import torch_load
from rtmdet_plugin.compat.torch_load import DamagedCheckpointError, UnsafeCheckpointError


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.linear(torch.stack(inputs)).square().mean())


def runner(work_dir, epochs: int, *, resume: bool) -> Runner:
    return Runner(
        Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=[dict(inputs=torch.ones(1)) for _ in range(4)],
            sampler=dict(type='DefaultSampler', shuffle=True),
            batch_size=2,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
            dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=3, T_max=3, convert_to_iter_based=True),
        ],
        custom_hooks=[dict(type='EMAHook')],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        experiment_name=f'{work_dir.name}_{epochs}',
        resume=resume,
        log_level='WARNING',
    )


def test_resume_of_a_real_checkpoint(tmp_path):
    first = runner(tmp_path, 1, resume=False)
    first.message_hub.update_scalar('val/ap', np.float64(0.5))
    first.message_hub.update_info('best_score', np.float32(0.25))
    first.train()
    path = tmp_path / 'epoch_1.pth'
    unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    assert unsafe == [], 'not on the list'

    second = runner(tmp_path, 2, resume=True)
    second.train()
    assert second.epoch == 2 and (tmp_path / 'epoch_2.pth').exists()
    assert second.message_hub.get_info('best_score') == np.float32(0.25)
    history, _ = second.message_hub.get_scalar('train/loss').data
    assert len(history) == 4, 'two steps of each run'
    assert second.message_hub.get_scalar('train/loss').statistics('max') == history.max()


@pytest.mark.parametrize(
    'value',
    [HistoryBuffer([1.0, 2.0], [1, 1]), np.arange(3), np.ones(2, np.float16), np.array([True]), np.int64(3),
     np.array(['a']), np.float32(0.5), dict(a=[np.bool_(True)]), ConfigDict(a=dict(b=1))],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_each_harmless_kind_loads(tmp_path, value):
    torch.save(value, tmp_path / 'x.pth')
    loaded = torch.load(tmp_path / 'x.pth', weights_only=True)
    assert type(loaded) is type(value)
    if isinstance(value, HistoryBuffer):
        assert loaded.mean() == 1.5
    else:
        np.testing.assert_equal(loaded, value)


class Command:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


BUFFER = HistoryBuffer([1.0], [1])
# What the file asks for, as the error must name it: the file's content. The argument is a file that must not appear.
BOMBS = {
    'posix.system': lambda marker: Command(os.system, f'touch {marker}'),
    'eval': lambda marker: Command(eval, f'open({str(marker)!r}, "w")'),
    'shutil.copyfile': lambda marker: ConfigDict(a=[BUFFER, Command(shutil.copyfile, __file__, str(marker))]),
    "getattr(<class 'collections.OrderedDict'>, 'clear')": lambda _: Command(getattr, OrderedDict, 'clear'),
    "getattr(<class 'mmengine.logging.history_buffer.HistoryBuffer'>, '__init__')": lambda _: Command(
        getattr, HistoryBuffer, '__init__'
    ),
    'getattr(<mmengine.logging.history_buffer.HistoryBuffer object': lambda _: Command(getattr, BUFFER, 'mean'),
    'mmengine.config.lazy.LazyObject': lambda _: {'a': LazyObject('os')},
    'numpy.dtypes.ObjectDType': lambda marker: np.array([Command(os.system, f'touch {marker}')], dtype=object),
}


@pytest.mark.parametrize('asked', BOMBS)
@pytest.mark.parametrize('new_zip', [True, False], ids=['zip', 'legacy'])
def test_code_in_a_checkpoint_is_refused_by_name(tmp_path, asked, new_zip):
    marker, path = tmp_path / 'ran', tmp_path / 'bad.pth'
    content = dict(state_dict={}, message_hub=BOMBS[asked](marker))
    torch.save(content, path, _use_new_zipfile_serialization=new_zip)
    with pytest.raises(UnsafeCheckpointError) as raised:
        load_checkpoint(Line(), str(path))
    message = str(raised.value)
    assert message.startswith(f'{path} is refused') and asked in message
    assert '\n' not in message
    assert not marker.exists()


def test_a_call_of_what_an_allowed_call_gave_is_refused(tmp_path):
    """A file may contain `HistoryBuffer.mean`, but must not call it."""
    path = tmp_path / 'bad.pth'
    # Written by hand, because pickle doesn't produce such a file.
    path.write_bytes(
        b'\x80\x02cbuiltins\ngetattr\ncmmengine.logging.history_buffer\nHistoryBuffer\nX\x04\0\0\0mean\x86R)R.'
    )
    with pytest.raises(UnsafeCheckpointError, match='asks for <function HistoryBuffer.mean'):
        CheckpointLoader.load_checkpoint(str(path))


def test_formats_that_can_run_code_are_refused(tmp_path):
    path = tmp_path / 'bad.pth'
    torch.jit.script(torch.nn.Linear(1, 1)).save(path)
    with pytest.raises(UnsafeCheckpointError, match='bad.pth is refused.*TorchScript'):
        CheckpointLoader.load_checkpoint(str(path))
    with tarfile.open(path, 'w') as archive:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            content = pickle.dumps(Command(os.system, f'touch {tmp_path}/ran'))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(UnsafeCheckpointError, match='bad.pth is refused.*tar'):
        CheckpointLoader.load_checkpoint(str(path))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_named(tmp_path, share):
    path = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=Line().state_dict()), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DamagedCheckpointError, match='cut.pth is cut off, altered, or no checkpoint'):
        CheckpointLoader.load_checkpoint(str(path))


@pytest.mark.parametrize(
    'content', [b'<!DOCTYPE html>', b'version https://git-lfs', bytes(range(256)) * 4, b'\x80\x02q']
)
def test_a_file_of_something_else_is_named(tmp_path, content):
    (tmp_path / 'page.pth').write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match='page.pth is cut off, altered, or no checkpoint'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'page.pth'))


def test_a_file_that_is_larger_in_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    torch.save(dict(state_dict=dict(a=torch.zeros(10**6))), tmp_path / 'x.pth')
    with zipfile.ZipFile(tmp_path / 'x.pth') as source, zipfile.ZipFile(tmp_path / 'packed.pth', 'w') as target:
        for name in source.namelist():
            target.writestr(name, source.read(name), zipfile.ZIP_DEFLATED)
    # The list of entries claims that one of them is larger than the file.
    data = bytearray((tmp_path / 'x.pth').read_bytes())
    place = data.rindex(b'PK\x01\x02', 0, data.rindex(b'x/version'))
    data[place + 20 : place + 28] = (10**9).to_bytes(4, 'little') * 2
    (tmp_path / 'lying.pth').write_bytes(data)
    monkeypatch.setattr(torch, 'load', None)
    for name, said in (('packed.pth', 'got 4,000,'), ('lying.pth', 'got 1,00')):
        with pytest.raises(DamagedCheckpointError, match=f'{name} is refused, .* stored uncompressed, .*{said}'):
            CheckpointLoader.load_checkpoint(str(tmp_path / name))


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'gone.pth'))
    torch.save({}, tmp_path / 'x.pth')
    with pytest.raises(RuntimeError, match="(?i)expected one of cpu.*nowhere|'nowhere'|nowhere") as raised:
        torch_load.safely(lambda *_: torch.zeros(1, device='nowhere'))(str(tmp_path / 'x.pth'))
    assert not isinstance(raised.value, DamagedCheckpointError)


# -- a caller or a fork that sets weights_only=False --------------------------------------------------------------


def test_weights_only_false_does_not_help_the_file(tmp_path):
    """The onedl fork tries again with `weights_only=False` if torch has refused a file."""
    marker, path = tmp_path / 'ran', tmp_path / 'bad.pth'
    torch.save(Command(os.system, f'touch {marker}'), path)

    def of_the_fork(filename, map_location, logger):
        try:
            return torch.load(filename, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError:
            return torch.load(filename, map_location=map_location, weights_only=False)

    with pytest.raises(UnsafeCheckpointError, match='posix.system'):
        torch_load.safely(of_the_fork)(str(path))
    assert not marker.exists()
    assert torch_load.FORCE_WEIGHTS_ONLY not in os.environ


def test_the_list_of_the_fork_is_empty(monkeypatch):
    """The fork adds it to torch's list for the time of a load; what it removes afterwards must not be ours."""
    monkeypatch.setattr(torch_load.mmengine_checkpoint, 'get_torch_safe_globals', lambda: [getattr], raising=False)
    torch_load.load_checkpoints_safely()
    before = torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals(torch_load.mmengine_checkpoint.get_torch_safe_globals()):
        assert torch.serialization.get_safe_globals() == before
    assert HistoryBuffer in torch.serialization.get_safe_globals() and getattr not in before


def test_wrapped_once():
    before = CheckpointLoader.load_checkpoint
    torch_load.load_checkpoints_safely()
    assert CheckpointLoader.load_checkpoint is before
