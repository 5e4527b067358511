"""A run whose metric no longer improves is stopped, but not before stage 2."""

import pytest

STAGE2 = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]


@pytest.mark.parametrize(('length', 'validated'), [(3, [1, 2, 3, 4, 5, 6]), (0, [1, 2]), (1, [*range(1, 8)])])
def test_only_validations_of_stage_2_count(make_runner, coco, length, validated):
    """The metric rises by less than `min_delta`; the first validation that counts is the reference."""
    hooks = dict(
        switch=dict(type='RTMPipelineSwitchHook', switch_pipeline=STAGE2, num_last_epochs=length),
        stop=dict(type='RTMEarlyStoppingHook', monitor='AP', rule='greater', min_delta=1, patience=1),
    )
    runner = make_runner(max_epochs=7, hooks=hooks, train_cfg=dict(val_interval=1), val_dataset=coco(test_mode=True))
    runner.train()
    assert runner.record.validated == validated
