"""A user or a spot machine interrupts and resumes `mim train`: the result has the same bits as without a signal.

With the data path of the configs, mosaic and caches included. See
tests/engine/hooks/test_graceful_stop.py for all the moments at which a signal can come.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from states import assert_same, training_state
from user_run import write_user_data

pytestmark = pytest.mark.slow  # each of them trains three times
ROOT = Path(__file__).parents[1]
CONFIG = """
_base_ = 'config.py'

custom_imports = dict(imports=['rtmdet_plugin', 'signal_probe'], allow_failed_imports=False)
custom_hooks = [dict(type='SignalProbe')]
train_dataloader = dict(batch_size=2, num_workers={workers}, persistent_workers={workers} > 0)  # 8 steps an epoch
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 5
default_hooks = dict(ema=dict(momentum=0.1, gamma=5))
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = write_user_data(tmp_path_factory.mktemp('pictures'))
    for workers in (0, 2):
        (root / f'workers_{workers}.py').write_text(CONFIG.format(workers=workers))
    return root


def start(config: Path, work_dir: Path, *args: str, at: str = '') -> subprocess.Popen:
    """Start `mim train`, whose probe waits for a signal at `at`, `rank:iteration`."""
    paths = os.pathsep.join(filter(None, (str(ROOT / 'tests'), str(ROOT), os.environ.get('PYTHONPATH'))))
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'SIGNAL_PROBE': at, 'PYTHONPATH': paths}
    command = [sys.executable, '-m', 'mim', 'train', 'mmdet', str(config), '--work-dir', str(work_dir), *args]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen, code: int) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == code, output[-4000:]
    return output


def group(pid: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != 'Z':
            found.append(int(path.parent.name))
    return found


def last(work_dir: Path) -> dict:
    return training_state(work_dir / 'epoch_2.pth')


@pytest.mark.parametrize(('number', 'workers'), [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_stopped_and_resumed_is_as_never_stopped(data, tmp_path, number, workers):
    config = data / f'workers_{workers}.py'
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    reference = start(config, whole)
    stopped = start(config, parts, at='0:5')
    while not (parts / 'ready').exists() and stopped.poll() is None:
        time.sleep(0.1)
    # A supervisor sends SIGTERM to the process that it started; a terminal sends Ctrl-C to all processes.
    os.kill(stopped.pid, number) if number == signal.SIGTERM else os.killpg(stopped.pid, number)
    output = ended(stopped, 128 + number)
    assert f'{number.name}: stopped after iteration 6' in output and 'Traceback' not in output
    assert group(stopped.pid) == [], 'no worker is left'
    ended(reference, 0)
    output = ended(start(config, parts, '--resume'), 0)
    assert 'Resuming within epoch 1: its first 6 batches are done.' in output
    assert_same(last(parts), last(whole))


def test_two_ranks_stop_after_the_same_step(data, tmp_path):
    """One process gets the signal; torchrun would send its own to all."""
    options = ('--launcher', 'pytorch', '--gpus', '2')
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    config = data / 'workers_0.py'
    ended(start(config, whole, *options), 0)
    stopped = start(config, parts, *options, at='1:1')
    while not (parts / 'ready').exists() and stopped.poll() is None:
        time.sleep(0.1)
    os.kill(int((parts / 'ready').read_text()), signal.SIGTERM)
    output = ended(stopped, 1)  # the launcher's code for a rank that ended early
    assert 'stopped after iteration 2' in output
    assert group(stopped.pid) == []
    ended(start(config, parts, '--resume', *options), 0)
    assert_same(last(parts), last(whole))
