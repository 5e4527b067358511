"""The switch to stage 2, in real runs: which pipeline did the samples of each epoch come from?"""

import pytest
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.runner import Runner

from rtmdet_plugin.datasets.tree import leaf_datasets
from rtmdet_plugin.engine.hooks import RTMPipelineSwitchHook

STAGE1, STAGE2 = 64, 32  # side lengths


def pipeline(side):
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(side, side), keep_ratio=False),
        dict(type='PackDetInputs'),
    ]


def switch(num_last_epochs=2, side=STAGE2, **kwargs):
    settings = dict(switch_pipeline=pipeline(side), num_last_epochs=num_last_epochs, **kwargs)
    return dict(switch=dict(type='RTMPipelineSwitchHook', **settings))


EXPECTED = [(0, STAGE1), (1, STAGE1), (2, STAGE2), (3, STAGE2)]


@pytest.mark.parametrize('workers', [0, 2])
def test_samples_come_from_the_stage_of_their_epoch(make_runner, workers):
    runner = make_runner(workers=workers, hooks=switch())
    runner.train()
    assert runner.record.seen == EXPECTED
    log = runner.log()
    assert 'Stage 2 (epochs 3 to 4): switched 1 dataset(s).' in log and log.count('Stage 2 (') == 1


def test_persistent_workers_end_at_the_switch_and_live_on_otherwise(make_runner):
    class Workers(Hook):
        by_epoch = []

        def after_train_epoch(self, runner):
            self.by_epoch.append(runner.train_loop.dataloader._iterator._workers)

    runner = make_runner(workers=2, hooks=switch())
    runner.register_hook(Workers())
    runner.train()
    first, second, third, fourth = ([worker.pid for worker in workers] for workers in Workers.by_epoch)
    assert first == second and third == fourth and not set(second) & set(third)
    assert not any(worker.is_alive() for worker in Workers.by_epoch[0])


def concat(coco):
    return dict(type='ConcatDataset', datasets=[coco(), coco()])


WRAPPED = dict(
    concat=(2, concat),
    repeat=(1, lambda coco: dict(type='RepeatDataset', times=2, dataset=coco())),
    class_balanced=(1, lambda coco: dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=coco())),
    nested=(
        4,
        lambda coco: dict(
            type='ConcatDataset',
            datasets=[dict(type='RepeatDataset', times=2, dataset=concat(coco)) for _ in range(2)],
        ),
    ),
    multi_image_mix=(
        1,
        lambda coco: dict(
            type='MultiImageMixDataset', dataset=coco(pipeline=pipeline(STAGE1)[:2]), pipeline=pipeline(STAGE1)[2:]
        ),
    ),
)


@pytest.mark.parametrize(('wrapper', 'workers'), [*((wrapper, 0) for wrapper in WRAPPED), ('nested', 2)])
def test_every_wrapped_dataset_switches(make_runner, coco, wrapper, workers):
    leaves, dataset = WRAPPED[wrapper]
    runner = make_runner(workers=workers, dataset=dataset(coco), hooks=switch())
    runner.train()
    assert runner.record.seen == EXPECTED
    pipelines = [leaf.pipeline for leaf in leaf_datasets(runner.train_loop.dataloader.dataset)]
    assert len({id(p) for p in pipelines}) == leaves, 'each dataset has a Compose of its own'


def test_reaches_through_num_batch_per_epoch(make_runner):
    runner = make_runner(hooks=switch(), loader=dict(num_batch_per_epoch=1))
    runner.train()
    assert runner.record.seen == EXPECTED


def test_pipelines_are_built_once(make_runner, coco, monkeypatch):
    built = []
    monkeypatch.setattr(
        'rtmdet_plugin.engine.hooks.pipeline_switch.Compose', lambda cfg: built.append(Compose(cfg)) or built[-1]
    )
    runner = make_runner(dataset=concat(coco), hooks=switch(num_last_epochs=3))
    runner.train()
    assert len(built) == 2
    assert [leaf.pipeline for leaf in leaf_datasets(runner.train_loop.dataloader.dataset)] == built


@pytest.mark.parametrize('workers', [0, 2])
def test_resume_inside_stage_2_switches_before_its_first_epoch(make_runner, tmp_path, workers):
    hooks = dict(switch(), checkpoint=dict(type='CheckpointHook', interval=1))
    make_runner(hooks=hooks).train()
    runner = make_runner(hooks=hooks, workers=workers, resume=True, load_from=str(tmp_path / 'work' / 'epoch_3.pth'))
    runner.train()
    assert runner.record.seen == [(3, STAGE2)]
    assert 'Stage 2 (epochs 4 to 4)' in runner.log()


def test_resume_of_a_longer_run_moves_the_switch(make_runner, tmp_path):
    hooks = dict(switch(num_last_epochs=1), checkpoint=dict(type='CheckpointHook', interval=1))
    make_runner(max_epochs=2, hooks=hooks).train()
    runner = make_runner(max_epochs=4, hooks=hooks, resume=True, load_from=str(tmp_path / 'work' / 'epoch_2.pth'))
    runner.train()
    assert runner.record.seen == [(2, STAGE1), (3, STAGE2)]


@pytest.mark.parametrize('max_epochs', [1, 2])
def test_run_not_longer_than_stage_2_is_stage_2_with_a_warning(make_runner, max_epochs):
    runner = make_runner(max_epochs=max_epochs, hooks=switch(num_last_epochs=2))
    runner.train()
    assert runner.record.seen == [(epoch, STAGE2) for epoch in range(max_epochs)]
    assert 'WARNING' in runner.log() and 'the complete run is stage 2' in runner.log()


def test_zero_epochs_of_stage_2_changes_nothing_and_says_so(make_runner):
    runner = make_runner(max_epochs=2, hooks=switch(num_last_epochs=0))
    runner.train()
    assert runner.record.seen == [(0, STAGE1), (1, STAGE1)]
    assert 'num_last_epochs=0, so there is no stage 2' in runner.log()


@pytest.mark.parametrize('side', [STAGE1, STAGE2])
def test_equal_pipelines_are_logged(make_runner, coco, side):
    dataset = concat(coco)
    hooks = switch(num_last_epochs=1, side=side)
    runner = make_runner(max_epochs=2, hooks=hooks, dataset=dataset, cfg=dict(train_dataloader=dict(dataset=dataset)))
    runner.train()
    assert ('its pipeline is that of stage 1; nothing changes' in runner.log()) == (side == STAGE1)


def val_hooks(num_last_epochs, val_interval):
    checkpoint = dict(type='CheckpointHook', interval=100, save_best='AP', rule='greater')
    return dict(switch(num_last_epochs, val_interval=val_interval), checkpoint=checkpoint)


@pytest.mark.parametrize(
    'val_interval, dynamic_intervals, expected',
    [
        (1, None, [4, 5, 6, 7, 8]),  # the 5th epoch is the last of stage 1
        (2, None, [4, 6, 8]),
        (3, None, [4, 6, 8]),  # the last epoch is validated whatever the interval
        (1, [(3, 3)], [3, 5, 6, 7, 8]),  # the config's own table holds in stage 1
        (1, [(3, 3), (6, 4)], [3, 5, 6, 7, 8]),
    ],
)
def test_validation_in_stage_2(make_runner, coco, val_interval, dynamic_intervals, expected):
    runner = make_runner(
        max_epochs=8,
        hooks=val_hooks(3, val_interval),
        train_cfg=dict(val_interval=4, dynamic_intervals=dynamic_intervals),
        val_dataset=coco(test_mode=True),
    )
    runner.train()
    assert runner.record.validated == expected


def test_best_checkpoint_of_stage_2_is_kept(make_runner, coco, tmp_path):
    runner = make_runner(
        max_epochs=5, hooks=val_hooks(2, 1), train_cfg=dict(val_interval=4), val_dataset=coco(test_mode=True)
    )
    runner.train()
    assert [path.name for path in (tmp_path / 'work').glob('best_*')] == ['best_AP_epoch_5.pth']


def test_validation_after_resume_inside_stage_2(make_runner, coco, tmp_path):
    hooks = dict(switch(4), checkpoint=dict(type='CheckpointHook', interval=1))
    settings = dict(hooks=hooks, train_cfg=dict(val_interval=4), val_dataset=coco(test_mode=True))
    make_runner(max_epochs=8, **settings).train()
    checkpoint = str(tmp_path / 'work' / 'epoch_6.pth')
    runner = make_runner(max_epochs=8, **settings, resume=True, load_from=checkpoint)
    runner.train()
    assert runner.record.validated == [7, 8]


def test_misspelt_transform_stops_before_the_first_epoch(make_runner):
    hook = dict(type='RTMPipelineSwitchHook', switch_pipeline=[dict(type='LoadImageFromFil')], num_last_epochs=1)
    runner = make_runner(hooks=dict(switch=hook))
    with pytest.raises(KeyError, match='LoadImageFromFil'):
        runner.train()
    assert runner.record.seen == []


def test_iteration_based_loop_is_refused(make_runner):
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    runner = make_runner(hooks=switch())
    runner._train_loop = train_cfg
    with pytest.raises(ValueError, match='must be an EpochBasedTrainLoop.* got IterBasedTrainLoop'):
        Runner.train(runner)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(num_last_epochs=-1), 'num_last_epochs must be .* got -1'),
        (dict(val_interval=0), 'val_interval must be .* got 0'),
        (dict(switch_pipeline=[]), r'switch_pipeline must be .* got \[\]'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        RTMPipelineSwitchHook(**dict(dict(switch_pipeline=pipeline(STAGE2)), **settings))
