"""A checkpoint of mmengine's Runner loads with `weights_only=True`; one that runs code doesn't."""

import os
import pickle
from collections import OrderedDict

import mmengine
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner

from rtmdet_plugin.compat import torch_load

needs_gap = pytest.mark.skipif(not torch_load.has_gap(), reason='torch or mmengine loads without help')


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


@needs_gap
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


@needs_gap
@pytest.mark.parametrize(
    'value',
    [HistoryBuffer([1.0, 2.0], [1, 1]), np.arange(3), np.ones(2, np.float16), np.array([True]), np.int64(3),
     np.array(['a']), np.float32(0.5), dict(a=[np.bool_(True)])],
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
    """Runs a command when it is unpickled."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@needs_gap
@pytest.mark.parametrize(
    'make',
    [
        lambda marker: Command(os.system, f'touch {marker}'),
        lambda marker: Command(eval, f'open({str(marker)!r}, "w")'),
        lambda marker: Command(getattr, OrderedDict, 'clear'),
        lambda marker: Command(getattr, HistoryBuffer, '__init__'),
        lambda marker: Command(getattr, HistoryBuffer([1.0], [1]), 'mean'),
        lambda marker: np.array([Command(os.system, f'touch {marker}')], dtype=object),
    ],
    ids=['os.system', 'eval', 'getattr(another class)', 'getattr(init)', 'getattr(instance)', 'object array'],
)
def test_code_in_a_checkpoint_is_refused(tmp_path, make):
    marker = tmp_path / 'ran'
    torch.save(dict(state_dict={}, message_hub=make(marker)), tmp_path / 'bad.pth')
    with pytest.raises((pickle.UnpicklingError, ValueError, TypeError)):
        torch.load(tmp_path / 'bad.pth')
    assert not marker.exists()


@pytest.mark.parametrize(('torch_version', 'mmengine_version'), [('2.5.1+cpu', '0.10.7'), ('2.13.0', '0.10.12')])
def test_nothing_happens_without_the_gap(monkeypatch, torch_version, mmengine_version):
    monkeypatch.setattr(torch, '__version__', torch_version)
    monkeypatch.setattr(mmengine, '__version__', mmengine_version)
    monkeypatch.setattr(torch.serialization, 'add_safe_globals', lambda _: pytest.fail('called'), raising=False)
    torch_load.allow_mmengine_checkpoints()
