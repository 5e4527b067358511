"""Each check with plain numbers: which values pass, give a note or give a warning, and with which advice."""

import numpy as np
import pytest

from rtmdet_plugin.engine.hooks.before_run.run_findings import (
    Finding,
    check_aspect_ratios,
    check_batch_norm,
    check_box_format,
    check_classes,
    check_disk,
    check_learning_rate,
    check_memory,
    check_shared_memory,
    check_small_objects,
    check_stages,
    check_warm_up,
    format_report,
)
from rtmdet_plugin.training.fit_to_data import learning_rate

GIB = 2**30


def test_classes():
    assert check_classes(2, ('disc', 'square'), [3, 4]) == Finding('ok', 'classes', '2: disc, square')
    assert check_classes(None, ('disc', 'square'), []).level == 'ok'
    other = check_classes(80, ('disc', 'square'), [3, 4])
    assert (other.level, other.value) == ('warning', '80 in the model, 2 in the data: disc, square')
    assert 'model.bbox_head.num_classes=2' in other.advice
    unseen = check_classes(2, ('disc', 'square'), [3, 0])
    assert (unseen.level, unseen.value) == ('warning', "1 of 2 without objects: ['square']")


@pytest.mark.parametrize(('small', 'level'), [(0, 'ok'), (10, 'ok'), (11, 'note'), (25, 'note'), (26, 'warning')])
def test_small_objects(small, level):
    finding = check_small_objects(np.array([7.9] * small + [8.0] * (100 - small)), stride=8)
    assert finding.level == level and finding.value.startswith(f'{small}% of 100 ')
    assert ('img_scale' in finding.advice) == (level != 'ok')


def test_no_objects():
    assert check_small_objects(np.empty(0), 8).level == 'warning'
    assert check_aspect_ratios(np.empty(0)).level == 'ok'


@pytest.mark.parametrize(('long', 'level'), [(5, 'ok'), (6, 'note'), (20, 'note'), (21, 'warning')])
def test_aspect_ratios(long, level):
    assert check_aspect_ratios(np.array([10.1] * long + [10.0] * (100 - long))).level == level


def test_box_format():
    sizes = np.full((20, 2), 100)
    boxes = np.tile([30, 30, 20, 20], (20, 1))
    assert check_box_format(boxes, sizes) == Finding('ok', 'box format', '0 of 20 boxes extend past their image')
    outside = np.where(np.arange(20)[:, None] < 2, [-20, 90, 40, 20], boxes)
    assert check_box_format(outside, sizes).level == 'note'
    corners = check_box_format(np.tile([30, 30, 90, 90], (20, 1)), sizes)
    assert corners.level == 'warning' and 'x1, y1, x2, y2' in corners.value


@pytest.mark.parametrize(
    ('lr', 'batch', 'pretrained', 'level'),
    [
        (0.004, 256, True, 'ok'),
        (0.004, 16, True, 'ok'),
        (0.004, 12, True, 'warning'),
        (0.004, 16, False, 'ok'),
        (0.0061, 16, False, 'warning'),
        (0.00025, 16, True, 'ok'),
        (0.00002, 16, True, 'note'),
        (0.016, 1024, True, 'ok'),
        (0.0001, 256, True, 'note'),
    ],
)
def test_learning_rate(lr, batch, pretrained, level):
    assert check_learning_rate(lr, batch, pretrained).level == level


@pytest.mark.parametrize('pretrained', [True, False])
@pytest.mark.parametrize('batch', [1, 8, 16, 64, 256, 1024])
def test_what_is_chosen_for_a_training_or_by_auto_scale_lr_is_no_reason_for_a_warning(batch, pretrained):
    chosen = learning_rate(batch, pretrained, known=False).value
    assert check_learning_rate(chosen, batch, pretrained).level == 'ok'
    assert check_learning_rate(0.004 * batch / 256, batch, pretrained, batch / 256, scaled=True).level == 'ok'


def test_the_learning_rate_that_fits_is_offered():
    finding = check_learning_rate(0.004, 8, pretrained=True)
    assert finding.value == '0.004 for a batch of 8'
    assert finding.level == 'warning'
    assert finding.advice == '0.002 fits fine-tuning with a batch of 8: optim_wrapper.optimizer.lr=0.002'


@pytest.mark.parametrize(
    ('lr', 'base_batch_size', 'offered'), [(0.004, 256, True), (0.004, 10, False), (0.2, 256, False)]
)
def test_scaling_is_offered_if_it_leads_to_a_rate_that_fits(lr, base_batch_size, offered):
    finding = check_learning_rate(lr, 8, pretrained=True, factor=8 / base_batch_size)
    assert finding.level == 'warning' and ('--auto-scale-lr' in finding.advice) == offered
    assert finding.advice.endswith('optim_wrapper.optimizer.lr=0.002')


def test_a_rate_that_was_scaled_is_not_scaled_again():
    assert check_learning_rate(0.000125, 8, True, 8 / 256, scaled=True) == Finding(
        'ok', 'learning rate', '0.000125 for a batch of 8, scaled by auto_scale_lr from 0.004'
    )
    twice = check_learning_rate(0.000125 / 32, 8, True, 8 / 256, scaled=True)
    assert twice.level == 'note' and 'optim_wrapper.optimizer.lr=0.064, which auto_scale_lr' in twice.advice


@pytest.mark.parametrize(
    ('arguments', 'level'),
    [((4, 1, False), 'ok'), ((3, 1, False), 'warning'), ((2, 8, False), 'warning'), ((2, 8, True), 'ok')],
)
def test_batch_norm(arguments, level):
    assert check_batch_norm(*arguments).level == level


@pytest.mark.parametrize(
    ('epochs', 'last', 'level'),
    [(300, 20, 'ok'), (300, 0, 'ok'), (40, 20, 'ok'), (39, 20, 'note'), (20, 20, 'warning'), (5, 20, 'warning')],
)
def test_stages(epochs, last, level):
    assert check_stages(epochs, last).level == level


def test_the_stage_that_fits_is_offered():
    assert 'num_last_epochs=1 ' in check_stages(12, 20).advice
    assert 'num_last_epochs=20 ' in check_stages(300, 300).advice


@pytest.mark.parametrize(('steps', 'level'), [(5000, 'ok'), (4999, 'note'), (2000, 'note'), (1999, 'warning')])
def test_warm_up(steps, level):
    finding = check_warm_up(1000, steps)
    assert finding.level == level
    assert (f'param_scheduler.0.end={steps // 20}' in finding.advice) == (level != 'ok')


def test_memory_and_disk():
    assert [check_memory(need * GIB, 10 * GIB, 8).level for need in (5, 6, 11)] == ['ok', 'note', 'warning']
    assert [check_shared_memory(need, 64).level for need in (64, 65)] == ['ok', 'warning']
    assert [check_disk(GIB, 4, free * GIB).level for free in (4, 3)] == ['ok', 'warning']
    assert check_disk(GIB, 4, 3 * GIB).value == '4.0 GiB for 4 checkpoints, 3.0 GiB free'


def test_the_report_has_the_advice_below_its_line():
    lines = format_report(
        [check_stages(300, 20), check_learning_rate(0.004, 8, True), check_warm_up(10, 40)]
    ).splitlines()
    assert lines[0] == 'Before the first step: 1 warnings, 1 notes.'
    assert [line.split()[0] for line in lines[1:]] == ['ok', 'warning', '->', 'note', '->']
