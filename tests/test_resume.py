"""A run that was killed and resumed ends with the same bits as one that wasn't."""

import itertools
import multiprocessing
import os
import random
import re
import signal
import time
from pathlib import Path

import mmdet.models  # noqa: F401  once here, and not again in each process
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from states import assert_same, training_state
from user_run import write_user_data

from rtmdet_plugin.checkpoints.latest import damage, pointed_to
from rtmdet_plugin.engine.hooks.pipeline_switch import restart_workers

MAX_EPOCHS = 4
STEPS = 4  # an epoch
STAGES = {'in stage 1': 0, 'across the switch': 2, 'in stage 2': 3}
"""Length of stage 2, for a kill in the third epoch and a resume from the second."""


class KillHook(Hook):
    """Kill the process after a number of steps, as the system does if it runs out of memory."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    return write_user_data(tmp_path_factory.mktemp('pictures'))


def user_config(pictures: Path, work_dir: Path, num_workers: int, num_last_epochs: int, seed: int | None = 0) -> Config:
    config = Config.fromfile(pictures / 'config.py')
    config.work_dir = str(work_dir)
    config.train_cfg.update(max_epochs=MAX_EPOCHS, val_interval=3)
    config.train_dataloader.update(num_workers=num_workers, persistent_workers=num_workers > 0)
    config.default_hooks.pipeline_switch.num_last_epochs = num_last_epochs
    # Weight and learning rate change enough for a mistake to show within so few steps.
    config.param_scheduler[0].end = 5
    config.default_hooks.ema.update(momentum=0.1, gamma=5)
    config.randomness.seed = seed
    return config


def start(config: Config, kill_after: int | None = None) -> multiprocessing.Process:
    """Train in a separate process, because it may be killed."""

    def run() -> None:
        runner = Runner.from_cfg(config)
        if kill_after is not None:
            runner.register_hook(KillHook(kill_after), priority='VERY_LOW')
        runner.train()
        # Its workers end with the loader; left to the end of the process, they are terminated, which torch takes for a
        # fault of theirs.
        restart_workers(runner.train_dataloader)

    process = multiprocessing.get_context('fork').Process(target=run)
    process.start()
    return process


def train(config: Config, kill_after: int | None = None) -> None:
    """Train to the end, or until it kills itself; raise `AssertionError` if it ends in another way."""
    process = start(config, kill_after)
    process.join(300)
    assert process.exitcode == (0 if kill_after is None else -signal.SIGKILL)


def final_state(config: Config) -> dict:
    return training_state(Path(config.work_dir) / f'epoch_{MAX_EPOCHS}.pth')


@pytest.mark.parametrize(
    ('num_workers', 'stage'),
    [
        (2, 'across the switch'),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [(0, 'across the switch'), *itertools.product((0, 2), ('in stage 1', 'in stage 2'))]
        ),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(pictures, tmp_path, num_workers, stage):
    whole, killed = (user_config(pictures, tmp_path / name, num_workers, STAGES[stage]) for name in ('whole', 'killed'))
    train(whole)
    train(killed, kill_after=2 * STEPS + 2)
    assert not (tmp_path / 'killed' / 'epoch_3.pth').exists()
    killed.resume = True
    train(killed)
    assert_same(final_state(whole), final_state(killed))


@pytest.mark.slow
def test_without_a_seed_the_resumed_run_takes_up_that_of_the_first(pictures, tmp_path):
    config = user_config(pictures, tmp_path / 'work', 0, 2, seed=None)
    train(config, kill_after=2 * STEPS + 1)
    config.resume = True
    train(config)
    seeds = [
        torch.load(tmp_path / 'work' / f'epoch_{k}.pth', weights_only=True)['meta']['sampler_seed']
        for k in (2, MAX_EPOCHS)
    ]
    assert seeds[0] == seeds[1]


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [0, 2])
def test_25_kills_at_random_moments_lose_no_more_than_an_epoch(pictures, tmp_path, num_workers):
    """Starting, loading, training, validating or saving; a run that came to its end is followed by a new one."""
    whole = user_config(pictures, tmp_path / 'whole', num_workers, 2)
    begin = time.monotonic()
    train(whole)
    length = time.monotonic() - begin
    draw = random.Random(num_workers)
    kills = 0
    for run in itertools.count():
        config = user_config(pictures, tmp_path / f'run{run}', num_workers, 2)
        config.resume, epochs, ended = True, 0, False
        while not ended:
            process = start(config)
            process.join(draw.uniform(0, length) if kills < 25 else 300)
            ended = not process.is_alive()
            process.kill()
            process.join()
            kills += not ended
            last = pointed_to(config.work_dir)
            assert last is None or damage(last) is None
            before, epochs = epochs, int(re.search(r'epoch_(\d+)', last)[1]) if last else 0
            assert epochs >= before
        assert process.exitcode == 0
        assert_same(final_state(whole), final_state(config))
        if kills == 25:
            break
