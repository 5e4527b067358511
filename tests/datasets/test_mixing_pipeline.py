"""Dataset, cached mixing and worker processes together."""

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


def batches(settings, num_workers, seed, epochs=1):
    dataset = {'type': 'RTMCocoDataset', **settings, 'pipeline': PIPELINE}
    loader = Runner.build_dataloader(
        {
            'batch_size': 2,
            'num_workers': num_workers,
            'persistent_workers': num_workers > 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': dataset,
        },
        seed=seed,
    )
    return [batch for _ in range(epochs) for batch in loader]


def test_every_sample_is_mixed_from_the_first_on(content, write):
    dataset = RTMCocoDataset(**write(content, pictures=True), pipeline=PIPELINE)
    for index in range(6):
        packed = dataset[index]
        assert packed['inputs'].shape == (3, 96, 96) and packed['inputs'].dtype == torch.uint8
        # a sample of its own has 2 objects and 60 rows; mosaic and MixUp bring more
        assert len(packed['data_samples'].gt_instances.labels) > 2


@pytest.mark.parametrize('num_workers', [0, 2])
def test_samples_of_the_loader_are_mixed_and_vary_by_epoch(content, write, num_workers):
    np.random.seed(0)
    got = batches(write(content, pictures=True), num_workers, seed=3, epochs=2)
    assert len(got) == 6
    images = [image for batch in got for image in batch['inputs']]
    assert all(image.shape == (3, 96, 96) for image in images)
    assert all(len(s.gt_instances.labels) > 2 for batch in got for s in batch['data_samples'])
    unique = {image.numpy().tobytes() for image in images}
    assert len(unique) == 12, 'workers or epochs repeat each other'


def test_the_runs_seed_decides(content, write):
    settings = write(content, pictures=True)
    first, again, other = (
        torch.stack([image for batch in batches(settings, 2, seed) for image in batch['inputs']]) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
