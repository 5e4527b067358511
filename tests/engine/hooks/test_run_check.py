"""The report before the first step is made from the runner's settings, and never stops a run."""

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import pseudo_collate

from rtmdet_plugin.datasets.collate import rtm_collate
from rtmdet_plugin.engine.hooks.before_run import run_check
from rtmdet_plugin.engine.hooks.before_run.box_statistics import box_statistics
from rtmdet_plugin.engine.hooks.before_run.free_memory import free_memory
from rtmdet_plugin.engine.hooks.before_run.run_check import cache_bytes, checkpoint_bytes, first_scale, walk_transforms
from rtmdet_plugin.transforms import RTMCachedMixUp, RTMCachedMosaic, RTMCachedMosaicResizeCrop

STAGE2 = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]
HOOKS = dict(
    pipeline_switch=dict(type='RTMPipelineSwitchHook', switch_pipeline=STAGE2, num_last_epochs=20),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    run_check=dict(type='RTMRunCheckHook'),
)
ADAMW = dict(optimizer=dict(type='AdamW', lr=0.004))


@pytest.fixture
def check(make_runner):
    """Train for one epoch and parse the report: subject of each line -> (level, value)."""

    def run(**kwargs):
        runner = make_runner(**{'max_epochs': 1, 'hooks': HOOKS, 'optim_wrapper': ADAMW, **kwargs})
        runner.train()
        log = runner.log()
        assert log.index('Before the first step: ') < log.index('Saving checkpoint')
        text = log.split('Before the first step: ')[1].split('\n')
        lines = {}
        for line in text[1:]:
            if not line.startswith('  '):
                break
            if '->' not in line:
                level, what, value = line[2:11].strip(), line[11:26].strip(), line[26:]
                lines[what] = (level, value)
        return lines

    return run


def test_the_numbers_are_those_of_the_run(check):
    schedule = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2)]
    lines = check(param_scheduler=schedule)
    assert lines['classes'] == ('ok', '2: disc, square')
    assert lines['small objects'][1].startswith('0% of 10 are narrower than the finest stride (8 px)')
    assert lines['aspect ratios'][0] == 'ok'
    assert lines['box format'] == ('ok', '0 of 10 boxes extend past their image')
    assert lines['learning rate'] == ('ok', '0.004 for a batch of 5'), 'the base value, not that of the warm-up'
    assert lines['batch norm'] == ('ok', 'statistics of 5 images')
    assert lines['stages'] == ('warning', '20 of 1 epochs are stage 2')
    assert lines['warm-up'] == ('warning', '2 of 2 steps')
    assert lines['memory'][0] == 'ok' and lines['disk'][1].startswith('0 MiB for 1 checkpoints')


@pytest.mark.parametrize('wrapper', ['ConcatDataset', 'RepeatDataset', 'ClassBalancedDataset'])
def test_sees_through_wrappers(check, coco, wrapper):
    inner = dict(datasets=[coco(), coco()]) if wrapper == 'ConcatDataset' else dict(dataset=coco())
    options = dict(RepeatDataset=dict(times=2), ClassBalancedDataset=dict(oversample_thr=0.9)).get(wrapper, {})
    lines = check(dataset=dict(type=wrapper, **inner, **options))
    objects = 20 if wrapper == 'ConcatDataset' else 10
    assert f' of {objects} ' in lines['small objects'][1]


def test_accumulated_batches_count(check):
    assert check(optim_wrapper=dict(ADAMW, accumulative_counts=2))['learning rate'][1] == '0.004 for a batch of 10'


GROUPS = {'conv': dict(lr_mult=1)}  # one group per parameter, as in the recipe
MULTIPLIED = {'conv': dict(lr_mult=0.1), 'bn.weight': dict(lr_mult=10)}  # `bn.bias` has the base rate


@pytest.mark.parametrize(
    ('lr', 'enable', 'keys', 'found'),
    [
        (0.000078, False, GROUPS, ('ok', '7.8e-05 for a batch of 5')),
        (0.04, False, GROUPS, ('warning', '0.04 for a batch of 5')),
        (0.004, True, GROUPS, ('ok', '7.81e-05 for a batch of 5, scaled by auto_scale_lr from 0.004')),
        (0.000078, False, MULTIPLIED, ('ok', '7.8e-05 for a batch of 5; other groups: 7.8e-06, 0.00078')),
    ],
)
def test_the_learning_rate_is_that_of_the_optimiser(check, lr, enable, keys, found):
    wrapper = dict(optimizer=dict(type='AdamW', lr=lr), paramwise_cfg=dict(custom_keys=keys))
    schedule = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2)]
    scaling = dict(enable=enable, base_batch_size=256)
    lines = check(optim_wrapper=wrapper, auto_scale_lr=scaling, param_scheduler=schedule)
    assert lines['learning rate'] == found


def test_a_run_that_starts_from_a_detectors_weights_is_measured_as_fine_tuning(check, make_runner, tmp_path):
    model = make_runner().model
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    lines = check(model=model, load_from=str(tmp_path / 'weights.pth'))
    assert lines['learning rate'] == ('warning', '0.004 for a batch of 5')


def test_sgd_has_no_rate_that_fits(check):
    assert 'learning rate' not in check(optim_wrapper=None)


def test_a_check_that_fails_is_told_and_stops_nothing(check, monkeypatch):
    monkeypatch.setattr(run_check, 'box_statistics', lambda *args: {}['instances'])
    assert check()['data'] == ('note', "not checked: KeyError: 'instances'")


def test_only_the_main_process_logs(make_runner, monkeypatch):
    monkeypatch.setattr(run_check, 'is_main_process', lambda: False)
    runner = make_runner(max_epochs=1, hooks=HOOKS)
    runner.train()
    assert 'Before the first step' not in runner.log()


class Listed:
    """A dataset of two images of 100 x 50 px."""

    def __len__(self):
        return 2

    def get_data_info(self, index):
        boxes = [[0, 0, 10, 20], [0, 0, 0, 20]] if index else [[5, 5, 45, 10]]
        instances = [dict(bbox=box, bbox_label=index, ignore_flag=0) for box in boxes]
        instances.append(dict(bbox=[0, 0, 50, 50], bbox_label=0, ignore_flag=1))
        return dict(width=100, height=50, instances=instances)


def test_box_statistics_by_hand():
    found = box_statistics([Listed()], scale=(200, 400), num_classes=3)
    assert found.short_sides.tolist() == [10, 20] and found.ratios.tolist() == [8, 2]
    assert found.counts.tolist() == [1, 1, 0]
    assert found.boxes.tolist() == [[5, 5, 40, 5], [0, 0, 10, 20]] and found.sizes.tolist() == [[100, 50]] * 2
    some = box_statistics([Listed(), Listed()], scale=(100, 100), num_classes=3, max_images=2)
    assert some.short_sides.tolist() == [5, 5] and len(some.counts) == 0


def test_boxes_of_data_sets_without_objects(coco, pictures, tmp_path, check):
    root = shutil.copytree(pictures, tmp_path / 'empty')
    content = json.loads((root / 'boxes.json').read_text())
    (root / 'boxes.json').write_text(json.dumps(dict(content, annotations=[])))
    lines = check(dataset=coco(data_root=str(root)))
    assert lines['small objects'] == ('warning', 'the dataset has no objects')
    assert lines['classes'] == ('warning', "2 of 2 without objects: ['disc', 'square']")


def test_memory_of_caches():
    assert cache_bytes(RTMCachedMosaic(img_scale=(64, 32), max_cached_images=9)) == 10 * 64 * 32 * 3
    assert cache_bytes(RTMCachedMixUp(img_scale=(6400, 6400), max_cached_images=20)) == 2**28, 'the cache has a limit'
    assert cache_bytes(object()) == 0
    assert first_scale([object(), RTMCachedMosaic(img_scale=(64, 32))]) == (64, 32) and first_scale([]) is None
    fused = RTMCachedMosaicResizeCrop(img_scale=(64, 32), max_cached_images=9)
    assert sum(map(cache_bytes, walk_transforms([object(), fused]))) == 10 * 64 * 32 * 3


@pytest.mark.skipif(not Path('/dev/shm').is_dir(), reason='this system has no /dev/shm')
@pytest.mark.parametrize(('collate', 'checked'), [(rtm_collate, False), (pseudo_collate, True)])
def test_shared_memory_is_checked_if_batches_use_it(collate, checked):
    dataset = SimpleNamespace(pipeline=SimpleNamespace(transforms=[]))
    settings = dict(batch_size=2, num_workers=2, prefetch_factor=2)
    loader = SimpleNamespace(dataset=dataset, collate_fn=partial(collate), **settings)
    found = run_check.find_about_memory(SimpleNamespace(train_dataloader=loader))
    assert ('shared memory' in [finding.what for finding in found]) == checked


def test_size_of_a_checkpoint(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.BatchNorm1d(300))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(4, 300)).sum().backward()
    optimizer.step()
    content = dict(state_dict=model.state_dict(), ema=dict(model.state_dict()), optimizer=optimizer.state_dict())
    content['ema'] = {name: value.clone() for name, value in content['ema'].items()}
    torch.save(content, tmp_path / 'checkpoint.pth')
    size = (tmp_path / 'checkpoint.pth').stat().st_size
    assert checkpoint_bytes(model, optimizer, averaged=True) == pytest.approx(size, rel=0.02)
    momentum = torch.optim.SGD(model.parameters(), momentum=0.9)
    plain = torch.optim.SGD(model.parameters())
    trained = sum(p.numel() for p in model.parameters()) * 4
    assert checkpoint_bytes(model, momentum, False) - checkpoint_bytes(model, plain, False) == trained


def test_free_memory_is_the_least_of_machine_and_container(tmp_path):
    assert free_memory(tmp_path) is None
    (tmp_path / 'proc').mkdir()
    (tmp_path / 'proc/meminfo').write_text('MemTotal: 99 kB\nMemAvailable:   50 kB\n')
    assert free_memory(tmp_path) == 50 * 1024
    group = tmp_path / 'sys/fs/cgroup'
    group.mkdir(parents=True)
    for name, text in dict(max='max\n', current='30000\n', stat='anon 1\ninactive_file 1000\n').items():
        (group / f'memory.{name}').write_text(text)
    assert free_memory(tmp_path) == 50 * 1024, 'no limit'
    (group / 'memory.max').write_text('40000\n')
    assert free_memory(tmp_path) == 40000 - 30000 + 1000


def test_free_memory_here():
    free = free_memory()
    assert free is None or 2**20 < free < 2**50
