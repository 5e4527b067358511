"""A killed process ends the others, whatever they wait for; a run with unequal work is refused."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rtmdet_plugin.engine.hooks.interruption import lifeline, process_watch
from rtmdet_plugin.engine.hooks.interruption.lifeline import Address, Lifeline

ROOT = Path(__file__).parents[3]


class Ends:
    """The lifelines of three ranks in one process."""

    def __init__(self) -> None:
        self.reported: list[tuple[str, str]] = []
        self.news = threading.Event()
        self.main, self.other, self.third = (Lifeline(k, lambda text, k=k: self.report(k, text)) for k in range(3))
        self.address = self.main.listen('localhost')
        self.other.join(self.address)
        self.third.join(self.address)
        until(lambda: len(self.main._peers) == 2)

    def report(self, rank, text):
        self.reported.append((rank, text))
        if len(self.reported) == 2:
            self.news.set()


def until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def ends():
    pair = Ends()
    yield pair
    for end in (pair.main, pair.other, pair.third):
        end.close()


def test_all_hear_who_has_gone(ends):
    ends.other._close_sockets()  # what the kernel does with the connections of a killed process
    assert ends.news.wait(10)
    expected = f'process 1 on {socket.gethostname()} (pid {os.getpid()}) has ended in the middle of the run'
    assert sorted(ends.reported) == [(0, expected), (2, expected)]


def test_the_others_hear_that_the_main_process_has_gone(ends):
    ends.main._close_sockets()
    assert ends.news.wait(10)
    expected = 'process 0, the main one, has ended in the middle of the run'
    assert sorted(ends.reported) == [(1, expected), (2, expected)]


def test_the_hook_connects_the_processes_and_ends_this_one(monkeypatch, caplog):
    """Two hooks, one after the other, are two ranks; the second is lost, the first ends its process."""
    shared, codes, ended = [], [], threading.Event()
    monkeypatch.setenv('MASTER_ADDR', 'localhost')
    monkeypatch.setattr(process_watch, 'get_world_size', lambda: 2)
    monkeypatch.setattr(process_watch, 'GRACE_SECONDS', 0)
    monkeypatch.setattr(process_watch.os, '_exit', lambda code: (codes.append(code), ended.set()))

    def broadcast(content):
        shared[:] = shared or content
        content[:] = shared

    monkeypatch.setattr(process_watch, 'broadcast_object_list', broadcast)
    runner = SimpleNamespace(logger=logging.getLogger('process_watch'))
    hooks = [process_watch.RTMProcessWatchHook() for _ in range(2)]
    for rank, hook in enumerate(hooks):
        monkeypatch.setattr(process_watch, 'get_rank', lambda rank=rank: rank)
        hook.before_run(runner)
    until(lambda: hooks[0]._lifeline._peers)
    hooks[1]._lifeline._close_sockets()
    assert ended.wait(10) and codes[0] == 1
    assert 'has ended in the middle of the run, and the others cannot continue without it' in caplog.text
    for hook in hooks:
        hook.after_run(runner)


def test_a_main_process_that_cannot_be_reached_is_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(process_watch, 'get_world_size', lambda: 2)
    monkeypatch.setattr(process_watch, 'get_rank', lambda: 1)
    nobody = Address('localhost', free_port(), '')
    monkeypatch.setattr(process_watch, 'broadcast_object_list', lambda content: content.__setitem__(0, nobody))
    hook = process_watch.RTMProcessWatchHook()
    hook.before_run(SimpleNamespace(logger=logging.getLogger('process_watch')))
    assert f'Process 1 cannot reach localhost:{nobody[1]}' in caplog.text
    hook.after_run(None)


@pytest.mark.parametrize('first', ['main', 'other'])
def test_goodbye_is_no_loss(ends, first):
    order = ['main', 'other', 'third'] if first == 'main' else ['other', 'third', 'main']
    for name in order:
        getattr(ends, name).close()
        time.sleep(0.1)
    assert ends.reported == []


def test_strangers_are_not_let_in(ends):
    with socket.create_connection(('localhost', ends.address.port)) as stranger:
        stranger.settimeout(5)
        stranger.sendall(b'guess 1 host 1\n')
        assert stranger.recv(10) == b'', 'closed at once'
    assert len(ends.main._peers) == 2 and ends.reported == []


def test_a_forked_worker_does_not_keep_the_line(ends):
    """Workers of data loaders outlive a killed process by seconds, with copies of all its open connections."""
    inodes = {os.fstat(peer.fileno()).st_ino for peer in (*ends.main._peers, *ends.other._peers)}
    worker = os.fork()
    if worker == 0:  # no code of pytest may run here
        kept = set()
        for number in range(3, 200):
            try:
                kept.add(os.fstat(number).st_ino)
            except OSError:
                continue
        os._exit(1 if kept & inodes else 0)
    assert os.waitpid(worker, 0)[1] == 0


MEMBER = """
import json, os, runpy, signal, sys
lifeline = runpy.run_path(sys.argv[1])
end = lifeline['Lifeline'](1, print)
end.join(lifeline['Address'](*json.loads(sys.argv[2])))
{ending}
"""


@pytest.mark.parametrize(
    ('ending', 'code', 'lost'),
    [
        ('os.kill(os.getpid(), signal.SIGKILL)', -9, True),
        ('os._exit(3)', 3, True),
        ('raise MemoryError', 1, True),
        ('sys.exit(143)', 143, False),
        ('end.close(); os._exit(0)', 0, False),
    ],
)
def test_how_a_process_ends_tells_whether_it_is_lost(ending, code, lost):
    reported = []
    main = Lifeline(0, reported.append)
    address = json.dumps(main.listen('localhost'))
    command = [sys.executable, '-c', MEMBER.format(ending=ending), lifeline.__file__, address]
    member = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert member.wait(30) == code
    if lost:
        until(lambda: reported)
        assert f'(pid {member.pid}) has ended in the middle' in reported[0]
    else:
        until(lambda: not main._peers)
        assert reported == []
    main.close()


@pytest.mark.parametrize('what', ['images', 'batches'])
def test_unequal_work_is_refused(make_runner, monkeypatch, what):
    order = ['images', 'batches']
    asked = []

    def gather(count):
        asked.append(count)
        return [count, count - 1] if order[len(asked) - 1] == what else [count, count]

    monkeypatch.setattr(process_watch, 'all_gather_object', gather)
    runner = make_runner(max_epochs=1, hooks=dict(process_watch=dict(type='RTMProcessWatchHook')))
    numbers = r'\[10, 9\]' if what == 'images' else r'\[2, 1\]'
    with pytest.raises(ValueError, match=f'different numbers of training {what}, {numbers}'):
        runner.train()
    assert runner.record.seen == []


# A run as Slurm starts it: one command per process, without an agent that monitors them.
RUN = """
import os, signal, sys, time
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rtmdet_plugin.engine.hooks.interruption import process_watch

class Fault(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            if runner.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(300)  # as in NCCL, which doesn't notice the lost process

torch.set_num_threads(1)
process_watch.GRACE_SECONDS = 1
config = Config.fromfile(sys.argv[1])
config.launcher = 'pytorch'
runner = Runner.from_cfg(config)
runner.register_hook(Fault())
runner.train()
"""

CONFIG = """
_base_ = '{root}/configs/rtmdet_nano.py'
work_dir = '{work}'
model = dict(bbox_head=dict(num_classes=2))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]
data = dict(data_root='{data}', ann_file='boxes.json', data_prefix=dict(img='img/'))
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=pipeline, **data))
val_dataloader = None
val_cfg = None
val_evaluator = None
default_hooks = dict(pipeline_switch=dict(switch_pipeline=pipeline))
"""


def free_port() -> int:
    with socket.create_server(('localhost', 0)) as server:
        return server.getsockname()[1]


@pytest.mark.slow
def test_a_killed_process_ends_the_other_within_a_minute(pictures, tmp_path):
    (tmp_path / 'run.py').write_text(RUN)
    (tmp_path / 'config.py').write_text(CONFIG.format(root=ROOT, work=tmp_path / 'work', data=pictures))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    environment = dict(os.environ, CUDA_VISIBLE_DEVICES='-1', OMP_NUM_THREADS='1', PYTHONPATH=path)
    environment.update(MASTER_ADDR='localhost', MASTER_PORT=str(free_port()), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2')
    first, second = (
        subprocess.Popen(
            [sys.executable, tmp_path / 'run.py', tmp_path / 'config.py'],
            env=dict(environment, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for rank in (0, 1)
    )
    try:
        assert second.wait(120) == -signal.SIGKILL
        killed = time.monotonic()
        assert first.wait(60) == 1
        assert time.monotonic() - killed < 60
    finally:
        first.kill()
        second.kill()
    log = ''.join(path.read_text() for path in (tmp_path / 'work').glob('*/*.log'))
    assert f'Process 1 on {socket.gethostname()} (pid {second.pid}) has ended in the middle of the run' in log
