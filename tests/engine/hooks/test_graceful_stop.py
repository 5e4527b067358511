"""A signal in the middle of an epoch or a validation, then --resume: the same run as without the signal."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from states import assert_same

from rtmdet_plugin.checkpoints.latest import pointed_to
from rtmdet_plugin.engine.hooks.interruption.graceful_stop import IgnoreGroupSignals, RTMGracefulStopHook

EPOCHS = 3
LOADER = dict(batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True))  # five batches an epoch


class Sender(Hook):
    """Sends this process a signal at one point, `(name of a hook's method, epoch, batch)`."""

    priority = 'VERY_HIGH'

    def __init__(self, number: int, moment: tuple[str, int, int]) -> None:
        self.number, self.moment = number, moment
        self.batches: list[tuple[int, int]] = []

    def _at(self, name: str, runner, batch_idx: int) -> None:
        if self.moment == (name, runner.epoch, batch_idx):
            os.kill(os.getpid(), self.number)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append((runner.epoch, batch_idx))
        self._at('before_train_iter', runner, batch_idx)

    def before_train_epoch(self, runner):
        self._at('before_train_epoch', runner, 0)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self._at('before_val_iter', runner, batch_idx)

    def before_val(self, runner):
        self._at('before_val', runner, 0)


NEVER = ('never', 0, 0)


@pytest.fixture
def make(make_runner, coco):
    """Make a runner with all state that a checkpoint must hold: EMA, schedulers, a best score, pending losses."""

    def build(moment=NEVER, number: int = signal.SIGTERM, **kwargs):
        hooks = dict(
            checkpoint=dict(type='RTMCheckpointHook', interval=2, save_best='AP', rule='greater'),
            graceful_stop=dict(type='RTMGracefulStopHook'),
            runtime_info=dict(type='RTMRuntimeInfoHook'),
            ema=dict(type='EMAHook', ema_type='RTMExpMomentumEMA', momentum=0.1, update_buffers=True, priority=49),
            logger=dict(type='LoggerHook', interval=3),
        )
        settings = dict(
            max_epochs=EPOCHS,
            loader=LOADER,
            train_cfg=dict(type='RTMEpochBasedTrainLoop', val_interval=2),
            val_dataset=coco(test_mode=True),
            hooks=hooks,
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
                dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=3, convert_to_iter_based=True),
                dict(type='MultiStepLR', by_epoch=True, milestones=[1, 2]),
            ],
        )
        torch.manual_seed(0)
        runner = make_runner(**settings | kwargs)
        runner.sender = Sender(number, moment)
        runner.register_hook(runner.sender)
        return runner

    return build


def state(path: Path) -> dict:
    """Return the content of a checkpoint, without times."""
    loaded = torch.load(path, weights_only=True)
    for name in ('time', 'experiment_name', 'cfg'):
        loaded['meta'].pop(name)
    hub = loaded['message_hub']
    hub['log_scalars'] = {k: v.data for k, v in hub['log_scalars'].items() if 'time' not in k}
    # 'epoch' and 'iter' are set when training starts and in each step; a resume reads the numbers in meta.
    info = {k: v for k, v in hub['runtime_info'].items() if k not in ('eta', 'cfg', 'experiment_name', 'epoch', 'iter')}
    hub['runtime_info'] = {k: Path(v).name if k.endswith('_ckpt') else v for k, v in info.items()}
    return loaded


UNINTERRUPTED = {}
"""Result of the run without a signal: its last checkpoint, its learning rates, the name of its best file."""


@pytest.fixture
def uninterrupted(make, tmp_path) -> dict:
    if not UNINTERRUPTED:
        runner, work_dir = make(), tmp_path / 'work'
        runner.train()
        best = next(work_dir.glob('best_*')).name
        UNINTERRUPTED.update(state=state(work_dir / f'epoch_{EPOCHS}.pth'), lr=runner.record.lr, best=best)
        shutil.rmtree(work_dir)
    return UNINTERRUPTED


MOMENTS = {
    'first step': (('before_train_iter', 0, 0), 1),
    'within an epoch': (('before_train_iter', 1, 2), 8),
    'last step of an epoch': (('before_train_iter', 0, 4), 5),
    'last step before a validation': (('before_train_iter', 1, 4), 10),
    'between epochs': (('before_train_epoch', 2, 0), 10),
    'before a validation': (('before_val', 2, 0), 10),
    'within a validation': (('before_val_iter', 2, 0), 10),
    'within the last validation': (('before_val_iter', 3, 1), 15),
}


@pytest.mark.parametrize('name', MOMENTS)
def test_the_resumed_run_is_the_uninterrupted_one(make, uninterrupted, tmp_path, name):
    work_dir = tmp_path / 'work'
    moment, iterations = MOMENTS[name]
    first = make(moment)
    with pytest.raises(SystemExit) as raised:
        first.train()
    assert raised.value.code == 143
    assert pointed_to(work_dir) == str(work_dir / 'interrupted.pth')
    assert torch.load(work_dir / 'interrupted.pth', weights_only=True)['meta']['iter'] == iterations

    second = make(resume=True)
    second._val_evaluator.metrics[0].asked = first._val_evaluator.metrics[0].asked  # the metric counts evaluations
    second.train()
    assert_same(state(work_dir / f'epoch_{EPOCHS}.pth'), uninterrupted['state'])
    assert first.record.lr + second.record.lr == uninterrupted['lr']
    every = [(epoch, batch) for epoch in range(EPOCHS) for batch in range(5)]
    assert first.sender.batches + second.sender.batches == every, 'no step twice, none left out, hooks saw no other'
    assert next(work_dir.glob('best_*')).name == uninterrupted['best']
    assert not (work_dir / 'interrupted.pth').exists(), 'the next regular one removes it'


def test_the_two_signals_have_their_exit_codes(make, tmp_path):
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        runner = make(('before_train_iter', 0, 1), number)
        with pytest.raises(SystemExit) as raised:
            runner.train()
        assert raised.value.code == code
        assert f'{number.name}: stopped after iteration 2; --resume continues from' in runner.log()
        shutil.rmtree(tmp_path / 'work')


def test_handlers_are_put_back(make):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    make().train()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_gradients_that_accumulate_are_waited_for(make, tmp_path):
    wrapper = dict(optimizer=dict(type='AdamW', lr=0.01), accumulative_counts=2)
    with pytest.raises(SystemExit):
        make(('before_train_iter', 0, 2), optim_wrapper=wrapper).train()
    saved = torch.load(tmp_path / 'work' / 'interrupted.pth', weights_only=True)
    assert saved['meta']['iter'] == 4


def test_the_loop_of_mmengine_stops_at_the_end_of_the_epoch(make, tmp_path):
    with pytest.raises(SystemExit):
        make(('before_train_iter', 0, 1), train_cfg=dict(type='EpochBasedTrainLoop', val_interval=2)).train()
    assert torch.load(tmp_path / 'work' / 'interrupted.pth', weights_only=True)['meta']['iter'] == 5


def test_an_epoch_of_another_length_begins_anew(make):
    with pytest.raises(SystemExit):
        make(('before_train_iter', 1, 2)).train()
    runner = make(resume=True, loader=dict(LOADER, batch_size=5))
    runner.train()
    assert runner.sender.batches == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert 'The interrupted epoch had 5 batches, but has 2 now, so it is restarted.' in runner.log()


def test_a_signal_twice_at_once_is_one(make):
    """A launcher forwards a signal that the terminal has sent to all processes."""
    runner = make()
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'RTMGracefulStopHook')
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        hook._on_signal(number, None)
    assert hook._signal == signal.SIGINT


def test_a_second_ctrl_c_ends_at_once(make):
    """Tested in a fork, because the signal itself ends the process, which a shell shows as 130."""
    runner = make()
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'RTMGracefulStopHook')
    pid = os.fork()
    if pid == 0:
        hook._on_signal(signal.SIGINT, None)
        hook._since -= 2
        hook._on_signal(signal.SIGINT, None)
        time.sleep(5)
        os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT


# -- workers ------------------------------------------------------------------------------------------------------


class Slow:
    """A dataset whose workers can receive signals while they load a batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 4

    def __getitem__(self, idx: int) -> int:
        (self.folder / str(os.getpid())).touch()
        time.sleep(0.2)
        return idx


SEND = 'import os, sys; os.kill(int(sys.argv[1]), int(sys.argv[2]))'


def alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_workers_finish_their_batches(tmp_path, number):
    """Ctrl-C in a terminal and SIGTERM from torchrun are sent to workers as well."""
    loader = torch.utils.data.DataLoader(Slow(tmp_path), num_workers=2, worker_init_fn=IgnoreGroupSignals(None))
    found = []
    for batch in loader:
        found.append(int(batch))
        if len(found) == 1:
            workers = [int(path.name) for path in tmp_path.iterdir()]
            for pid in workers:
                subprocess.run([sys.executable, '-c', SEND, str(pid), str(number.value)], check=True)
    assert found == [0, 1, 2, 3]
    assert len(workers) == 2
    assert wait_until(lambda: not any(alive(pid) for pid in workers)), 'and end'


def test_the_main_process_can_end_them():
    """Workers end on SIGTERM from the main process, which torch and multiprocessing send if a worker doesn't answer."""
    read, write = os.pipe()
    seen = []

    def init(worker_id):
        seen.append(worker_id)
        os.write(write, str(seen).encode())

    pid = os.fork()
    if pid == 0:
        IgnoreGroupSignals(init)(3)
        time.sleep(20)
        os._exit(0)
    assert os.read(read, 100) == b'[3]', "the loader's own worker_init_fn is called"
    os.kill(pid, signal.SIGTERM)
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0, 'PyTorch takes one that was killed for one that failed'


PERSISTENT = """
import builtins
import torch
from rtmdet_plugin.engine.hooks.interruption.graceful_stop import IgnoreGroupSignals

init = IgnoreGroupSignals(None)
loader = torch.utils.data.DataLoader(range(4), num_workers=2, persistent_workers=True, worker_init_fn=init)
builtins.kept = loader  # alive until the interpreter's end, as in a training
for _ in loader:
    pass
"""


def test_workers_that_are_left_at_the_end_end_quietly():
    # Without warnings, because the onedl fork of mmdet warns when it is imported.
    command = [sys.executable, '-W', 'ignore', '-c', PERSISTENT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, '')


def test_a_signal_that_comes_while_the_ranks_agree_is_not_lost(monkeypatch):
    hook = RTMGracefulStopHook()
    hook._group = object()
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda *args, **kwargs: hook._on_signal(signal.SIGTERM, None))
    assert not hook._stop_requested(), 'the other ranks do not know of it yet'
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda *args, **kwargs: None)
    assert hook._stop_requested()
