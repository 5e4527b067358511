"""`mim train` and the signals that it gets while the training runs; a short program stands for the training."""

import os
import signal
import subprocess
import sys
import time

import pytest

# What mim does, once it has its command; and a training that says when it is asked to stop.
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
        os.killpg(mim.pid, number)  # a terminal sends it to everybody
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


def test_other_exit_codes_are_mims_as_before():
    mim = start('raise SystemExit(3)')
    out, err = mim.communicate(timeout=60)
    assert mim.returncode == 1 and 'CalledProcessError' in err and 'exit status 3' in err and 'over' not in out
    mim = start('')
    assert mim.communicate(timeout=60)[0] == 'over\n' and mim.returncode == 0
