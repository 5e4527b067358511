"""Samples depend on their position in the run, not on what a process did before."""

import pickle
import random
import unittest.mock
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner

from rtmdet_plugin.datasets.coco import RTMCocoDataset
from rtmdet_plugin.datasets.sampler import RTMDefaultSampler
from rtmdet_plugin.datasets.seeded_fetch import PlacedIndex, fetch_by_place, seed_generators
from rtmdet_plugin.transforms.sample_cache import clear_caches

LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations', 'with_bbox': True}]
PACK = [{'type': 'PackDetInputs', 'meta_keys': ('img_id', 'img_shape')}]
PIPELINES = {
    'fast': [
        {'type': 'RTMLoadImageAndAnnotations', 'img_scale': (48, 48)},
        {
            'type': 'RTMCachedMosaicResizeCrop',
            'img_scale': (48, 48),
            'ratio_range': (0.8, 1.2),
            'crop_size': (72, 72),
            'max_cached_images': 8,
        },
        {'type': 'RTMYOLOXHSVRandomAug'},
        {'type': 'RTMRandomFlip'},
        {'type': 'RTMCachedMixUp', 'img_scale': (72, 72), 'ratio_range': (1.0, 1.0), 'max_cached_images': 4},
        {'type': 'RTMPackDetInputs', 'meta_keys': ('img_id', 'img_shape')},
    ],
    "mmdet's, in a RandomApply": [
        *LOAD,
        {
            'type': 'RandomApply',
            'prob': 0.9,
            'transforms': [{'type': 'CachedMosaic', 'img_scale': (48, 48), 'max_cached_images': 8}],
        },
        {'type': 'Resize', 'scale': (96, 96), 'keep_ratio': False},
        {'type': 'YOLOXHSVRandomAug'},
        {'type': 'CachedMixUp', 'img_scale': (96, 96), 'ratio_range': (1.0, 1.0), 'max_cached_images': 4},
        *PACK,
    ],
}


def dataset_config(settings, wrapper=None, pipeline='fast'):
    config = {'type': 'RTMCocoDataset', **settings, 'pipeline': PIPELINES[pipeline]}
    if wrapper == 'ConcatDataset':
        return {'type': wrapper, 'datasets': [config, config]}
    arguments = {'RepeatDataset': {'times': 2}, 'ClassBalancedDataset': {'oversample_thr': 0.5}}
    return {'type': wrapper, 'dataset': config, **arguments[wrapper]} if wrapper else config


def make_loader(config, num_workers=0, persistent=True, seed=7):
    loader = Runner.build_dataloader(
        {
            'batch_size': 2,
            'num_workers': num_workers,
            'persistent_workers': persistent and num_workers > 0,
            'sampler': {'type': 'RTMDefaultSampler', 'shuffle': True},
            'dataset': config,
            'collate_fn': {'type': 'pseudo_collate'},
        },
        seed=seed,
    )
    fetch_by_place(loader.dataset)  # as the training loop does
    return loader


def epoch_of(loader, epoch, batches=None):
    """Return an epoch's batches as bytes, to compare two runs."""
    loader.sampler.set_epoch(epoch)
    got = []
    for batch in islice(iter(loader), batches):
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
            boxes, labels = sample.gt_instances.bboxes, sample.gt_instances.labels
            got.append(
                (image.numpy().tobytes(), torch.as_tensor(getattr(boxes, 'tensor', boxes)).tolist(), labels.tolist())
            )
    return got


@pytest.mark.parametrize('wrapper', [None, 'ConcatDataset', 'RepeatDataset', 'ClassBalancedDataset'])
@pytest.mark.parametrize('num_workers', [0, 2])
def test_an_epoch_does_not_depend_on_those_before_it(content, write, num_workers, wrapper):
    config = dataset_config(write(content, images=True), wrapper)
    through = make_loader(config, num_workers)
    first, second = (epoch_of(through, epoch) for epoch in (0, 1))
    resumed = make_loader(config, num_workers)
    assert epoch_of(resumed, 1) == second
    assert first != second
    assert len({image for image, _, _ in first + second}) == len(first + second), 'epochs or workers repeat each other'


@pytest.mark.parametrize('pipeline', PIPELINES)
def test_interrupted_epochs_and_other_draws_leave_no_trace(content, write, pipeline):
    config = dataset_config(write(content, images=True), pipeline=pipeline)
    expected = epoch_of(make_loader(config), 3)
    loader = make_loader(config)
    epoch_of(loader, 3, batches=2)
    random.seed(99)
    np.random.seed(99)
    assert epoch_of(loader, 3) == expected
    assert epoch_of(loader, 3) == expected, 'the second time as the first'


def test_workers_that_stay_and_workers_started_anew_draw_the_same(content, write):
    config = dataset_config(write(content, images=True))
    kept, restarted = make_loader(config, 2), make_loader(config, 2, persistent=False)
    for epoch in (0, 1):
        assert epoch_of(kept, epoch) == epoch_of(restarted, epoch)


def test_the_seed_and_nothing_else_decides(content, write):
    config = dataset_config(write(content, images=True))
    assert epoch_of(make_loader(config, seed=1), 0) == epoch_of(make_loader(config, seed=1), 0)
    assert epoch_of(make_loader(config, seed=1), 0) != epoch_of(make_loader(config, seed=2), 0)


def test_the_first_sample_of_an_epoch_is_mixed_out_of_full_caches(content, write):
    loader = make_loader(dataset_config(write(content, images=True)))
    mosaic, mixup = (loader.dataset.pipeline.transforms[place] for place in (1, 4))
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        loader.dataset.__getitems__(list(loader.sampler)[:1])
        assert (len(mosaic.mosaic.cache), len(mixup.cache)) == (8, 4), 'as many as they are allowed'


def test_the_training_process_keeps_its_own_draws(content, write):
    loader = make_loader(dataset_config(write(content, images=True)))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    loader.collate_fn = None  # fetched below without the loader, whose own iterator draws a seed from torch
    loader.dataset.__getitems__(list(loader.sampler))
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.mark.parametrize('shuffle', [True, False])
def test_the_order_is_that_of_mmengine_and_the_dataset_stays_as_it_is(content, write, shuffle):
    dataset = RTMCocoDataset(**write(content, images=True), pipeline=PIPELINES['fast'])
    attributes = dict(vars(dataset))
    theirs, ours = (kind(dataset, shuffle, seed=4) for kind in (DefaultSampler, RTMDefaultSampler))
    for epoch in (0, 5):
        theirs.set_epoch(epoch)
        ours.set_epoch(epoch)
        assert list(ours) == list(theirs)
    assert [index.place for index in ours] == [(4, 0, 5, position) for position in range(6)]
    assert vars(dataset) == attributes


def test_an_index_keeps_its_place_on_its_way_to_a_worker():
    index = pickle.loads(pickle.dumps(PlacedIndex(3, (1, 2, 4, 8), 5)))
    assert index == 3 and index.place == (1, 2, 4, 8) and index.turn == 5


def test_other_loaders_may_use_the_data_set(content, write):
    dataset = make_loader(dataset_config(write(content, images=True))).dataset
    loader = torch.utils.data.DataLoader(dataset, batch_size=3, collate_fn=len)
    assert list(loader) == [3, 3]
    dataset.pipeline.transforms = [lambda results: random.random()]
    first, second = (dataset.__getitems__([0]) for _ in range(2))
    assert first != second, 'each epoch draws again, as without us'


def test_batches_out_of_order_keep_their_caches(content, write):
    loader = make_loader(dataset_config(write(content, images=True), 'RepeatDataset'))
    indices = list(loader.sampler)
    loader.dataset.__getitems__(indices[4:])
    cache = loader.dataset.dataset.pipeline.transforms[1].mosaic.cache
    before = len(cache)
    with unittest.mock.patch.object(cache, 'clear') as clear:
        loader.dataset.__getitems__(indices[:4])
    assert before == 8 and not clear.called


def test_each_part_of_a_place_changes_all_three_generators():
    def draws(*place):
        seed_generators(*place)
        return random.random(), np.random.rand(), torch.rand(()).item()

    places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 'warm-up', 0, 0)]
    drawn = [draws(*place) for place in places]
    assert all(len(set(column)) == len(places) for column in zip(*drawn, strict=True))
    assert drawn[0] == draws(*places[0])


@pytest.mark.parametrize('pipeline', PIPELINES)
def test_caches_are_found_within_other_transforms(content, write, pipeline):
    dataset = RTMCocoDataset(**write(content, images=True), pipeline=PIPELINES[pipeline])
    for index in range(6):
        dataset[index]
    mosaic, mixup = dataset.pipeline.transforms[1 if pipeline == 'fast' else 2], dataset.pipeline.transforms[-2]
    mosaic = mosaic.mosaic.cache if pipeline == 'fast' else mosaic.transforms.transforms[0].results_cache
    mixup = mixup.cache if pipeline == 'fast' else mixup.results_cache
    assert len(mosaic) and len(mixup)
    assert clear_caches([dataset.pipeline]) == 2
    assert len(mosaic) == len(mixup) == 0
    assert clear_caches([LOAD, PACK]) == 0
