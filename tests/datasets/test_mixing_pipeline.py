"""Dataset, cached mixing and worker processes together."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from rtmdet_plugin.datasets.coco import RTMCocoDataset

PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations', 'with_bbox': True},
    {'type': 'RTMCachedMosaic', 'img_scale': (48, 48), 'max_cached_images': 8},
    {'type': 'RTMCachedMixUp', 'img_scale': (96, 96), 'ratio_range': (1.0, 1.0), 'max_cached_images': 4},
    {'type': 'PackDetInputs', 'meta_keys': ('img_id', 'img_shape')},
]


FAST_PIPELINE = [
    {'type': 'RTMLoadImageAndAnnotations', 'img_scale': (48, 48)},
    {
        'type': 'RTMCachedMosaicResizeCrop',
        'img_scale': (48, 48),
        'ratio_range': (1.0, 1.0),
        'crop_size': (96, 96),
        'max_cached_images': 8,
    },
    {'type': 'RTMYOLOXHSVRandomAug'},
    {'type': 'RTMRandomFlip'},
    {'type': 'RTMCachedMixUp', 'img_scale': (96, 96), 'ratio_range': (1.0, 1.0), 'max_cached_images': 4},
    {'type': 'RTMPackDetInputs', 'meta_keys': ('img_id', 'img_shape')},
]


def batches(settings, num_workers, seed, epochs=1, pipeline=PIPELINE, collate='pseudo_collate'):
    dataset = {'type': 'RTMCocoDataset', **settings, 'pipeline': pipeline}
    loader = Runner.build_dataloader(
        {
            'batch_size': 2,
            'num_workers': num_workers,
            'persistent_workers': num_workers > 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': dataset,
            'collate_fn': {'type': collate},
        },
        seed=seed,
    )
    return [batch for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize('pipeline', [PIPELINE, FAST_PIPELINE], ids=['composable', 'fast'])
@pytest.mark.parametrize('images', [6, 1], ids=['six', 'one, in a cache for eight'])
def test_every_sample_is_mixed_from_the_first_on(content, write, pipeline, images):
    content['images'] = content['images'][:images]
    dataset = RTMCocoDataset(**write(content, images=True), pipeline=pipeline)
    for index in range(images):
        packed = dataset[index]
        assert packed['inputs'].shape == (3, 96, 96) and packed['inputs'].dtype == torch.uint8
        # an unmixed sample has 2 objects and 60 rows; mosaic and MixUp add more
        assert len(packed['data_samples'].gt_instances.labels) > 2


@pytest.mark.parametrize('num_workers', [0, 2])
def test_samples_of_the_loader_are_mixed_and_vary_by_epoch(content, write, num_workers):
    np.random.seed(0)
    got = batches(write(content, images=True), num_workers, seed=3, epochs=2)
    assert len(got) == 6
    images = [image for batch in got for image in batch['inputs']]
    assert all(image.shape == (3, 96, 96) for image in images)
    assert all(len(s.gt_instances.labels) > 2 for batch in got for s in batch['data_samples'])
    unique = {image.numpy().tobytes() for image in images}
    assert len(unique) == 12, 'workers or epochs repeat each other'


@pytest.mark.parametrize(
    ('pipeline', 'collate'), [(PIPELINE, 'pseudo_collate'), (FAST_PIPELINE, 'rtm_collate')], ids=['composable', 'fast']
)
def test_the_runs_seed_decides(content, write, pipeline, collate):
    settings = write(content, images=True)
    first, again, other = (
        torch.stack(
            [image for b in batches(settings, 2, seed, pipeline=pipeline, collate=collate) for image in b['inputs']]
        )
        for seed in (5, 5, 6)
    )
    assert first.shape == (6, 3, 96, 96)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_broken_picture_stops_the_run_with_its_name(content, write):
    settings = write(content, images=True)
    dataset = RTMCocoDataset(**settings, pipeline=FAST_PIPELINE)
    path = dataset.get_data_info(3)['img_path']
    with open(path, 'wb') as file:
        file.write(b'gone')
    with pytest.raises(ValueError, match='3.png must be .* got 4 bytes that are no image'):
        for index in range(6):
            dataset[index]


def opencv_threads(_):
    """A last step of the pipeline that records OpenCV's number of threads in this process."""
    return {'threads': cv2.getNumThreads()}


def test_workers_have_one_thread_of_opencv(content, write):
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        dataset = RTMCocoDataset(**write(content, images=True), pipeline=[FAST_PIPELINE[0], opencv_threads])
        assert dataset[0]['threads'] == 4, 'the main process is not changed'
        loader = torch.utils.data.DataLoader(dataset, num_workers=1, batch_size=None)
        assert {item['threads'] for item in loader} == {1}
    finally:
        cv2.setNumThreads(before)
