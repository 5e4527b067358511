"""What our modules can't take over from a config of mmyolo is refused by name; nothing here needs mmyolo."""

import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.mmyolo_support.training_batch import unpack_batch

HEAD = dict(type='RTMSepBNHead', num_classes=3, in_channels=8, feat_channels=8)


@pytest.mark.parametrize(
    ('registry', 'settings', 'said'),
    [
        (
            TASK_UTILS,
            dict(type='RTMDynamicSoftLabelAssigner', class_cost='mine'),
            "class_cost must be one of .* got 'mi",
        ),
        (
            TASK_UTILS,
            dict(type='RTMDynamicSoftLabelAssigner', dynamic_k='mine'),
            "dynamic_k must be one of .* got 'min",
        ),
        (
            TASK_UTILS,
            dict(type='RTMDynamicSoftLabelAssigner', iou_calculator=dict(type='mmrotate.RBboxOverlaps2D')),
            'iou_calculator must be .* got .*RBboxOverlaps2D.*; leave it out',
        ),
        (MODELS, dict(type='RTMQualityFocalLoss', use_sigmoid=False), 'use_sigmoid must be True, got False'),
        (
            MODELS,
            dict(type='RTMCSPNeXtPAFPN', in_channels=[8, 16, 32], out_channels=8, widen_factor=0),
            'widen_factor and deepen_factor must be positive, got 0, 1.0',
        ),
        (
            MODELS,
            dict(HEAD, test_cfg=dict(multi_label=False)),
            'test_cfg.multi_label must be True, got False; .* keep mmy',
        ),
        (MODELS, dict(HEAD, test_cfg=dict(yolox_style=True)), 'test_cfg.yolox_style must be False, got True'),
        (
            MODELS,
            dict(HEAD, train_cfg=dict(assigner=dict(type='MlvlPointGenerator', strides=[8]))),
            'train_cfg.assigner must be .* got MlvlPointGenerator; use mmdet.RTMDynamicSoftLabelAssigner',
        ),
    ],
)
def test_settings(registry, settings, said):
    with pytest.raises(ValueError, match=said):
        registry.build(ConfigDict(settings))


@pytest.mark.parametrize(
    'settings',
    [dict(type='RTMSimOTAAssigner'), dict(type='RTMTaskAlignedAssigner'), dict(type='RTMATSSAssigner', topk=9)],
    ids=lambda settings: settings['type'],
)
def test_assigners_for_comparison_in_the_head_of_mmyolo(settings):
    """They are built as in a config of mmyolo, in another scope than mmdet's."""
    name = settings['type']
    with DefaultScope.overwrite_default_scope('mmengine'):
        assigner = TASK_UTILS.build(dict(settings, type=f'mmdet.{name}'))
    with pytest.raises(ValueError, match=f'train_cfg.assigner must be RTMDynamic.*got {name}; use it with mmdet.RTMSe'):
        assigner(*[torch.zeros(1)] * 6)


def test_rows_are_split_by_image_in_any_order():
    rows = torch.tensor([[2.0, 1, 0, 0, 8, 8], [0, 3, 1, 1, 9, 9], [2, 0, 2, 2, 7, 7]])
    instances, metas = unpack_batch(
        dict(bboxes_labels=rows, img_metas=[dict(batch_input_shape=torch.Size((64, 96)))] * 4)
    )
    assert [each.labels.tolist() for each in instances] == [[3], [], [1, 0], []]
    assert instances[2].bboxes.tolist() == [[0, 0, 8, 8], [2, 2, 7, 7]]
    assert [meta['pad_shape'] for meta in metas] == [(64, 96)] * 4


def test_rotated_boxes():
    with pytest.raises(ValueError, match=r'bboxes_labels must be rows .* got \(2, 7\); rotated'):
        unpack_batch(dict(bboxes_labels=torch.zeros(2, 7), img_metas=[]))


def test_our_preprocessor_with_mmyolos_batches():
    preprocessor = MODELS.build(dict(type='RTMDetDataPreprocessor'))
    batch = dict(inputs=torch.zeros(1, 3, 8, 8), data_samples=dict(bboxes_labels=torch.zeros(0, 6)))
    with pytest.raises(RefusedError, match='yolov5_collate; set .*YOLOv5DetDataPreprocessor.* or .*rtm_collate'):
        preprocessor(batch, training=True)
