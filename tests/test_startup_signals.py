"""`mim train` and the signals that it gets while the training runs; a short program stands for the training."""

import os
import signal
import subprocess
import sys
import time

import pytest

# The part of mim that runs its command, and a training that prints when it must stop.
MIM = """
import sys
import rtmdet_plugin_startup  # as the .pth does
rtmdet_plugin_startup.install()
from mim.cli import MIM
train = MIM().get_command(None, 'train').callback
train.__globals__['subprocess'].check_call([sys.executable, '-c', sys.argv[1]])
print('over')
"""
TRAINING = """
import signal, sys, time
def stop(number, frame):
    time.sleep(0.6)  # its last step; check_call would kill it after 0.25 s
    print('saved', flush=True)
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
print('ready', flush=True)
time.sleep(30)
"""


def start(training: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-c', MIM, training], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_training_ends_by_itself(number):
    mim = start(TRAINING)
    assert mim.stdout.readline() == 'ready\n'
    if number == signal.SIGINT:
        os.killpg(mim.pid, number)  # a terminal sends it to all processes
    else:
        os.kill(mim.pid, number)
    out, err = mim.communicate(timeout=20)
    assert (mim.returncode, out) == (128 + number, 'saved\n')
    assert 'Traceback' not in err


def test_a_training_that_was_ended_at_once():
    mim = start("import time; print('ready', flush=True); time.sleep(30)")
    assert mim.stdout.readline() == 'ready\n'
    began = time.monotonic()
    os.kill(mim.pid, signal.SIGTERM)
    mim.communicate(timeout=20)
    assert mim.returncode == 143 and time.monotonic() - began < 10


def test_other_endings_are_one_line_and_exit_code_1():
    for training, ending in (
        ('raise SystemExit(3)', 'exit code 3'),
        ('import os, signal; os.kill(os.getpid(), signal.SIGKILL)', 'signal 9'),
    ):
        mim = start(training)
        out, err = mim.communicate(timeout=60)
        assert (mim.returncode, out) == (1, '') and 'Traceback' not in err
        assert err.splitlines()[-1] == f'mim: the program ended with {ending}'
    mim = start('')
    assert mim.communicate(timeout=60)[0] == 'over\n' and mim.returncode == 0


# A training that raises `{}` after its log was set up.
FAILING = """
import sys
from mmengine.logging import MMLogger
import rtmdet_plugin
from rtmdet_plugin.errors import RefusedError
MMLogger.get_instance('run', log_file='run.log')
raise {}
"""


@pytest.mark.parametrize(
    ('raised', 'shown', 'said'),
    [
        ("RefusedError('max_epochs must be above 0')", False, 'rtmdet_plugin: max_epochs must be above 0'),
        pytest.param(
            "FileNotFoundError(2, 'No such file', 'a.json')",
            False,
            "rtmdet_plugin: [Errno 2] No such file: 'a.json'",
            marks=pytest.mark.slow,  # reported like the first
        ),
        pytest.param(
            "RefusedError('max_epochs must be above 0')",
            True,
            'rtmdet_plugin: max_epochs must be above 0',
            marks=pytest.mark.slow,  # the traceback is shown as that of the next
        ),
        pytest.param("KeyError('a bug')", True, 'mim: the program ended with exit code 1', marks=pytest.mark.slow),
    ],
    ids=['refused', 'missing file', 'refused, traceback asked for', 'bug'],
)
def test_the_reason_is_the_last_line(tmp_path, monkeypatch, raised, shown, said):
    monkeypatch.chdir(tmp_path)
    if 'Refused' in raised and shown:
        monkeypatch.setenv('RTMDET_PLUGIN_TRACEBACK', '1')
    mim = start(FAILING.format(raised))
    _, err = mim.communicate(timeout=60)
    assert mim.returncode == 1 and err.splitlines()[-1] == said
    assert err.count('Traceback') == shown and 'CalledProcessError' not in err
    bug = 'KeyError' in raised
    assert ('Traceback' in (tmp_path / 'run.log').read_text()) != bug, 'the log has it'
    assert ('The traceback is in ' in err) == (not shown)
