"""The learning rate over complete runs, compared with mmdet's literal schedule and the closed form."""

import math

import pytest
from mmdet.registry import PARAM_SCHEDULERS
from mmengine.optim import build_optim_wrapper
from torch import nn

from rtmdet_plugin.engine.schedulers import RTMFlatCosineLR

BASE_LR = 0.004
WARMUP = dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000)
OURS = [WARMUP, dict(type='RTMFlatCosineLR', eta_min_ratio=0.05, by_epoch=False)]
# As in mmdet's rtmdet_l_8xb32-300e_coco.py.
MMDET = [
    WARMUP,
    dict(
        type='CosineAnnealingLR',
        eta_min=BASE_LR * 0.05,
        begin=150,
        end=300,
        T_max=150,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]


def warmup(step: int) -> float:
    return min(1.0, 1e-5 + (1 - 1e-5) * step / 999)


def flat_cosine(step: int, end: int) -> float:
    middle = end // 2
    progress = max(0, step - middle) / (end - middle)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2


class Run:
    """The schedulers of a run, built by mmengine's Runner; each call of `step()` returns the lr of one iteration."""

    def __init__(self, make_runner, schedulers: list[dict], max_epochs: int, epoch_length: int) -> None:
        batches = dict(num_batch_per_epoch=epoch_length)
        runner = make_runner(max_epochs=max_epochs, loader=dict(batches, batch_size=1), param_scheduler=schedulers)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner.optim_wrapper = self.optimizer = build_optim_wrapper(
            nn.Linear(1, 1), dict(optimizer=dict(type='SGD', lr=BASE_LR))
        )
        self.schedulers = runner.build_param_scheduler(schedulers)
        assert runner.max_iters == max_epochs * epoch_length

    def step(self) -> float:
        lr = self.optimizer.param_groups[0]['lr']
        self.optimizer.step()
        for scheduler in self.schedulers:
            if not scheduler.by_epoch:
                scheduler.step()
        return lr

    def steps(self, number: int) -> list[float]:
        return [self.step() for _ in range(number)]

    def state(self) -> tuple:
        return self.optimizer.state_dict(), [scheduler.state_dict() for scheduler in self.schedulers]

    def load(self, state: tuple) -> None:
        self.optimizer.load_state_dict(state[0])
        for scheduler, scheduler_state in zip(self.schedulers, state[1], strict=True):
            scheduler.load_state_dict(dict(scheduler_state))


def test_equals_mmdets_literals_at_300_epochs(make_runner):
    curve = Run(make_runner, OURS, 300, 10).steps(3000)
    assert curve == pytest.approx(Run(make_runner, MMDET, 300, 10).steps(3000), rel=1e-9)
    assert curve[0] == pytest.approx(4e-8) and curve[999] == curve[1500] == pytest.approx(BASE_LR)
    assert curve[-1] == pytest.approx(0.05 * BASE_LR, rel=1e-4)


@pytest.mark.parametrize('max_epochs, epoch_length', [(50, 60), (3, 900), (1, 2500), (51, 59), (7, 401)])
def test_follows_the_actual_run(make_runner, max_epochs, epoch_length):
    length = max_epochs * epoch_length
    curve = Run(make_runner, OURS, max_epochs, epoch_length).steps(length)
    expected = [BASE_LR * warmup(i) * flat_cosine(i, length) for i in range(length)]
    assert curve == pytest.approx(expected, rel=1e-9)
    assert curve[1000 : length // 2 + 1] == pytest.approx([BASE_LR] * (length // 2 - 999))
    assert curve[-1] == pytest.approx(0.05 * BASE_LR, rel=1e-3)


@pytest.mark.parametrize('max_epochs, epoch_length', [(3, 10), (50, 10), (1, 1), (1, 2)])
def test_warmup_into_the_second_half_multiplies(make_runner, max_epochs, epoch_length):
    length = max_epochs * epoch_length
    curve = Run(make_runner, OURS, max_epochs, epoch_length).steps(length)
    assert curve == pytest.approx([BASE_LR * warmup(i) * flat_cosine(i, length) for i in range(length)], rel=1e-9)


@pytest.mark.parametrize('at', [1200, 2200])
def test_resume_continues_the_curve(make_runner, at):
    complete = Run(make_runner, OURS, 5, 500).steps(2500)
    first, second = Run(make_runner, OURS, 5, 500), Run(make_runner, OURS, 5, 500)
    first.steps(at)
    second.load(first.state())
    assert second.steps(2500 - at) == pytest.approx(complete[at:], rel=1e-12)


@pytest.mark.parametrize('at', [400, 2200])
def test_resume_with_another_length_follows_the_new_curve(make_runner, at):
    first, second = Run(make_runner, OURS, 5, 500), Run(make_runner, OURS, 8, 500)
    first.steps(at)
    second.load(first.state())
    # The lr of the first step is in the checkpoint's optimiser state, and mmengine doesn't recompute it.
    assert second.steps(4000 - at)[1:] == pytest.approx(Run(make_runner, OURS, 8, 500).steps(4000)[at + 1 :])


@pytest.mark.parametrize('at', [700, 2100])
def test_resumes_mmdets_checkpoint(make_runner, at):
    theirs = Run(make_runner, MMDET, 300, 10)
    theirs.steps(at)
    ours = Run(make_runner, OURS, 300, 10)
    ours.load(theirs.state())
    assert ours.steps(3000 - at) == pytest.approx(theirs.steps(3000 - at), rel=1e-9)


def test_real_run_uses_it(make_runner):
    runner = make_runner(max_epochs=4, loader=dict(batch_size=1), param_scheduler=OURS[1:])
    runner.train()
    expected = [0.01 * flat_cosine(step, 40) for step in range(40)]
    assert runner.record.lr == pytest.approx(expected)


def test_without_by_epoch_it_steps_by_epoch_over_the_whole_run(make_runner):
    """In this case mmengine's Runner sets `end` in epochs, so a default of False would end after 8 iterations."""
    runner = make_runner(max_epochs=8, loader=dict(batch_size=5), param_scheduler=[dict(type='RTMFlatCosineLR')])
    runner.train()
    assert runner.record.lr == pytest.approx([0.01 * flat_cosine(step // 2, 8) for step in range(16)])


@pytest.mark.parametrize('ratio', [-0.1, 1.5])
def test_bad_ratio(ratio):
    optimizer = build_optim_wrapper(nn.Linear(1, 1), dict(optimizer=dict(type='SGD', lr=1.0)))
    with pytest.raises(ValueError, match=f'eta_min_ratio must be .* got {ratio}'):
        RTMFlatCosineLR(optimizer, end=10, eta_min_ratio=ratio)


def test_registered_with_mmdet():
    assert PARAM_SCHEDULERS.get('RTMFlatCosineLR') is RTMFlatCosineLR
