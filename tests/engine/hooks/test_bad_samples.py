"""Each bad file is logged once and counted per epoch, and too many stop the run, for all kinds of workers."""

import pickle
import shutil
from pathlib import Path

import pytest

from rtmdet_plugin.datasets.bad_samples import BadSamplesError
from rtmdet_plugin.engine.hooks.faults import bad_samples as module

BAD = (3, 7)
HOOK = dict(bad_samples=dict(type='RTMBadSampleHook'))
STAGE_2 = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(32, 32), keep_ratio=False),
    dict(type='PackDetInputs'),
]
LOADERS = {
    'no worker': dict(num_workers=0, persistent_workers=False),
    'persistent workers': dict(num_workers=2, persistent_workers=True),
    'new workers each epoch': dict(num_workers=2, persistent_workers=False),
}


@pytest.fixture
def broken(pictures, tmp_path):
    """A copy of the images, some of which are empty files."""
    shutil.copytree(pictures, tmp_path / 'pictures')

    def make(*places):
        for place in places:
            (tmp_path / 'pictures' / 'img' / f'{place}.png').write_bytes(b'')
        return str(tmp_path / 'pictures')

    return make


@pytest.fixture
def dataset(broken, coco):
    def make(*places, **settings):
        return coco(type='RTMCocoDataset', data_root=broken(*places), **{'max_bad_share': 0.2, **settings})

    return make


@pytest.mark.parametrize('kind', LOADERS)
def test_one_line_a_file_and_a_count_each_epoch(make_runner, dataset, kind):
    runner = make_runner(dataset=dataset(*BAD), max_epochs=3, loader=LOADERS[kind], hooks=HOOK)
    runner.train()
    log = runner.log()
    assert [log.count(f'img/{place}.png') for place in range(10)] == [int(p in BAD) for p in range(10)]
    for epoch in (1, 2, 3):
        assert f'Epoch {epoch}: 2 bad samples of 10; drawn ' in log


@pytest.mark.parametrize('wrapper', ['concat', 'repeat', 'balanced'])
def test_wrapped_data_sets(make_runner, dataset, wrapper):
    one = dataset(*BAD)
    config = dict(
        concat=dict(type='ConcatDataset', datasets=[one, one]),
        repeat=dict(type='RepeatDataset', times=2, dataset=one),
        balanced=dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=one),
    )[wrapper]
    runner = make_runner(dataset=config, max_epochs=2, workers=2, hooks=HOOK)
    runner.train()
    log = runner.log()
    assert [log.count(f'img/{place}.png') for place in BAD] == [1, 1]
    assert log.count('Epoch 2: 2 bad samples of 10; drawn ') == (2 if wrapper == 'concat' else 1)


def test_a_clean_run_says_so_and_leaves_no_file(make_runner, dataset):
    runner = make_runner(dataset=dataset(), max_epochs=2, hooks=HOOK)
    runner.train()
    assert 'Epoch 1: 0 bad samples of 10.' in runner.log() and 'Epoch 2: 0 bad' in runner.log()
    assert not list(Path(runner.log_dir).glob('bad_samples*'))


@pytest.mark.parametrize('kind', LOADERS)
def test_too_many_stop_the_run_with_the_list(make_runner, dataset, kind):
    """Each of the two workers draws at most two bad samples, so only their sum exceeds the limit."""
    runner = make_runner(dataset=dataset(2, 3, 7), max_epochs=3, loader=LOADERS[kind], hooks=HOOK)
    with pytest.raises(BadSamplesError, match=r'at most max_bad_share=0\.2, got 3 of 10') as error:
        runner.train()
    assert all(f'img/{place}.png' in str(error.value) for place in (2, 3, 7))


def test_a_pickled_data_set_reports_to_the_same_place(make_runner, dataset):
    """A worker that is spawned instead of forked receives a pickled dataset."""
    runner = make_runner(dataset=dataset(*BAD), max_epochs=1, hooks=HOOK)
    runner.call_hook('before_run')
    hook = next(hook for hook in runner.hooks if isinstance(hook, module.RTMBadSampleHook))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    hook.before_train(runner)
    pickle.loads(pickle.dumps(runner.train_dataloader.dataset))[7]
    hook.after_train_iter(runner, 0)
    assert runner.log().count('img/7.png') == 1


def test_all_files_gone_stops_before_the_first_batch(make_runner, dataset):
    runner = make_runner(dataset=dataset(*range(10)), workers=2, hooks=HOOK)
    with pytest.raises(BadSamplesError, match='3 of 10'):
        runner.train()


def test_raise_stops_with_the_file(make_runner, dataset):
    runner = make_runner(dataset=dataset(7, on_bad_sample='raise'), workers=2, hooks=HOOK)
    with pytest.raises(ValueError, match=r'img/7\.png'):
        runner.train()


@pytest.mark.parametrize('workers', [0, 2])
def test_validation_counts_bad_pictures_as_missed(make_runner, dataset, coco, workers):
    val = dataset(4, test_mode=True)
    runner = make_runner(
        dataset=coco(), val_dataset=val, max_epochs=2, train_cfg=dict(val_interval=1), workers=workers, hooks=HOOK
    )
    runner._val_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
    runner.train()
    log = runner.log()
    assert log.count('img/4.png') == 1
    for epoch in (1, 2):
        assert f'Validation after epoch {epoch}: 1 bad samples of 10; drawn 1 times, shown as grey images' in log


@pytest.mark.slow  # a training
def test_pictures_that_the_annotation_file_spoils_are_counted(make_runner, dataset, tmp_path):
    config = dataset(7)
    path = tmp_path / 'pictures' / 'boxes.json'
    path.write_text(path.read_text().replace('"image_id": 3, "category_id": 2', '"image_id": 3, "category_id": 5'))
    runner = make_runner(dataset=config, max_epochs=1, hooks=HOOK)
    runner.train()
    assert 'Epoch 1: 2 bad samples of 10; drawn 1 times' in runner.log()


def test_a_stage_switch_keeps_listening(make_runner, dataset):
    hooks = HOOK | dict(switch=dict(type='RTMPipelineSwitchHook', switch_pipeline=STAGE_2, num_last_epochs=1))
    runner = make_runner(dataset=dataset(*BAD), max_epochs=2, workers=2, hooks=hooks)
    runner.train()
    assert 'Epoch 2: 2 bad samples of 10; drawn ' in runner.log()
    assert [runner.log().count(f'img/{place}.png') for place in BAD] == [1, 1]


def test_other_data_sets_are_left_alone(make_runner, coco):
    runner = make_runner(dataset=coco(), max_epochs=1, hooks=HOOK)
    runner.train()
    assert 'bad samples' not in runner.log()


def test_what_another_rank_met_is_logged_and_counted(make_runner, dataset, monkeypatch):
    other = [module.Report('/there/9.png', '/there/9.png: cut off')] * 2
    monkeypatch.setattr(module, 'all_gather_object', lambda heard: [heard, other])
    runner = make_runner(dataset=dataset(3), max_epochs=1, hooks=HOOK)
    runner.train()
    assert runner.log().count('/there/9.png') == 1
    assert 'Epoch 1: 2 bad samples of 10; drawn 3 times' in runner.log()
    monkeypatch.setattr(module, 'all_gather_object', lambda heard: [heard, other + [module.Report('x', 'x: y')]])
    with pytest.raises(BadSamplesError, match='3 of 10'):
        make_runner(dataset=dataset(3), max_epochs=1, hooks=HOOK).train()
