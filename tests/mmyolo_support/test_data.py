"""Our dataset and transforms with mmyolo's collate function, batch shapes and transforms."""

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner

PIPELINE = [
    dict(type='mmdet.RTMLoadImageAndAnnotations', img_scale=(48, 48)),
    dict(type='mmdet.RTMCachedMosaicResizeCrop', img_scale=(48, 48), ratio_range=(1.0, 1.0), crop_size=(96, 96)),
    dict(type='mmdet.RTMYOLOXHSVRandomAug'),
    dict(type='mmdet.RTMRandomFlip'),
    dict(type='mmdet.RTMCachedMixUp', img_scale=(96, 96), ratio_range=(1.0, 1.0)),
    dict(type='mmdet.RTMPackDetInputs'),
]
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
MOSAIC = dict(type='Mosaic', img_scale=(48, 48), use_cached=False, pre_transform=LOAD)
MIXED = {
    'ours after theirs': [*LOAD, dict(type='Mosaic', img_scale=(48, 48), use_cached=True), PIPELINE[4], PIPELINE[5]],
    'theirs after ours': [*PIPELINE[:2], dict(type='YOLOv5MixUp', use_cached=True), PIPELINE[5]],
    'within another step': [*LOAD, dict(type='RandomChoice', transforms=[[MOSAIC]]), PIPELINE[4], PIPELINE[5]],
    'without a cache': [*LOAD, MOSAIC, dict(type='YOLOv5MixUp', pre_transform=[*LOAD, MOSAIC]), PIPELINE[5]],
}


@pytest.fixture(autouse=True)
def mmyolo_scope(mmyolo_model):
    init_default_scope('mmyolo')


@pytest.fixture
def training_files(shapes):
    return dict(data_root=str(shapes), ann_file='train.json', data_prefix=dict(img='train/'))


def test_yolov5_collate_gets_our_boxes(training_files):
    loader = Runner.build_dataloader(
        dict(
            batch_size=3,
            num_workers=0,
            sampler=dict(type='mmdet.RTMDefaultSampler', shuffle=True),
            collate_fn=dict(type='yolov5_collate'),
            dataset=dict(type='mmdet.RTMCocoDataset', pipeline=PIPELINE, **training_files),
        ),
        seed=0,
    )
    batches = list(loader)
    assert len(batches) == 4
    for batch in batches:
        assert batch['inputs'].shape == (3, 3, 96, 96) and batch['inputs'].dtype == torch.uint8
        rows = batch['data_samples']['bboxes_labels']
        assert rows.dtype == torch.float32 and rows.shape[1] == 6 and rows[:, 0].unique().tolist() == [0, 1, 2]
        assert (rows[:, 2:4] < rows[:, 4:]).all() and 20 < rows[:, 2:].max() <= 96


@pytest.mark.parametrize('name', MIXED)
def test_pipelines_with_transforms_of_both(training_files, name):
    dataset = DATASETS.build(dict(type='mmdet.RTMCocoDataset', pipeline=MIXED[name], **training_files))
    plain = [len(dataset.get_data_info(index)['instances']) for index in range(12)]
    mixed = [len(dataset[index]['data_samples'].gt_instances.labels) for index in range(12)]
    assert sum(mixed) > 2 * sum(plain)


def test_batch_shapes_are_mmyolos(shapes):
    settings = dict(
        data_root=str(shapes),
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        batch_shapes_cfg=dict(type='BatchShapePolicy', batch_size=4, img_size=96, size_divisor=32, extra_pad_ratio=0.5),
        pipeline=[LOAD[0], dict(type='LetterResize', scale=(96, 96)), dict(type='mmdet.PackDetInputs')],
    )
    ours, theirs = (
        DATASETS.build(dict(type=kind, **settings)) for kind in ('mmdet.RTMCocoDataset', 'YOLOv5CocoDataset')
    )
    assert len({tuple(ours.get_data_info(index)['batch_shape']) for index in range(24)}) > 1
    for index in (0, 11, 23):
        assert ours.get_data_info(index)['img_path'] == theirs.get_data_info(index)['img_path']
        np.testing.assert_array_equal(ours[index]['inputs'], theirs[index]['inputs'])
