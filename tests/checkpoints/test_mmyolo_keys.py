"""mmyolo's names of RTMDet's weights: recognised, renamed both ways, and refused if they are something else."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from oracle import SIZES

from rtmdet_plugin.checkpoints.mmyolo_keys import has_mmyolo_keys, rename, stack_of

PAIRS = {
    'backbone.stem.0.conv.weight': 'backbone.stem.0.conv.weight',
    'neck.reduce_layers.2.conv.weight': 'neck.reduce_layers.0.conv.weight',
    'neck.top_down_layers.0.0.main_conv.conv.weight': 'neck.top_down_blocks.0.main_conv.conv.weight',
    'neck.top_down_layers.0.1.bn.bias': 'neck.reduce_layers.1.bn.bias',
    'neck.top_down_layers.1.blocks.0.conv1.conv.weight': 'neck.top_down_blocks.1.blocks.0.conv1.conv.weight',
    'neck.downsample_layers.0.conv.weight': 'neck.downsamples.0.conv.weight',
    'neck.downsample_layers.1.conv.weight': 'neck.downsamples.1.conv.weight',
    'neck.bottom_up_layers.0.final_conv.bn.weight': 'neck.bottom_up_blocks.0.final_conv.bn.weight',
    'neck.bottom_up_layers.1.final_conv.bn.weight': 'neck.bottom_up_blocks.1.final_conv.bn.weight',
    'neck.out_layers.2.bn.num_batches_tracked': 'neck.out_convs.2.bn.num_batches_tracked',
    'bbox_head.head_module.cls_convs.0.1.conv.weight': 'bbox_head.cls_convs.0.1.conv.weight',
    'bbox_head.head_module.reg_convs.2.0.bn.running_var': 'bbox_head.reg_convs.2.0.bn.running_var',
    'bbox_head.head_module.rtm_cls.0.weight': 'bbox_head.rtm_cls.0.weight',
    'bbox_head.head_module.rtm_reg.1.bias': 'bbox_head.rtm_reg.1.bias',
}
"""Name in mmyolo: in mmdet."""
MMYOLO = {name: torch.zeros(0) for name in PAIRS}
MMDET = {PAIRS[name]: value for name, value in MMYOLO.items()}
KEYS = dict(tiny=476, s=512, m=692, l=872, x=1052)
"""Keys of mmyolo's state dicts."""


def test_each_name_by_hand():
    assert rename(MMYOLO, 'mmdet').keys() == MMDET.keys()
    back = rename(MMDET, 'mmyolo')
    assert list(back) == list(MMYOLO)
    assert all(back[name] is value for name, value in MMYOLO.items())
    wrapped = {f'module.{name}': value for name, value in MMYOLO.items()}
    assert rename(wrapped, 'mmdet').keys() == MMDET.keys()
    assert (stack_of(wrapped), stack_of(MMDET)) == ('mmyolo', 'mmdet')
    assert has_mmyolo_keys(wrapped) and not has_mmyolo_keys(MMDET)


@pytest.mark.parametrize('size', SIZES)
def test_all_keys_of_each_size_there_and_back(size):
    with torch.device('meta'):
        state = MODELS.build(ConfigDict(SIZES[size])).state_dict()
    theirs = rename(state, 'mmyolo')
    assert len(theirs) == len(state) == KEYS.get(size, len(state))
    assert not any('reduce_layers.0' in name or 'downsamples' in name for name in theirs)
    back = rename(theirs, 'mmdet')
    assert list(back) == list(state)
    assert all(back[name] is value for name, value in state.items())


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        ([], 'those of RTMDet, .* got no keys'),
        (['conv1.weight', 'fc.bias'], 'those of RTMDet, .* got conv1.weight, fc.bias'),
        (['backbone.stem.0.conv.weight'], 'those of RTMDet'),  # a backbone, whose names are the same in both
        (
            ['neck.top_down_layers.0.0.x', 'bbox_head.head_module.convs_pred.0.weight'],
            'another detector of mmyolo, with bbox_head.head_module.convs_pred.0.weight$',  # YOLOv5
        ),
        (
            ['neck.top_down_layers.0.0.x', *(f'bbox_head.head_module.cls_preds.{i}.0.conv.weight' for i in range(5))],
            'another detector of mmyolo, with .*cls_preds.2.0.conv.weight and 2 more',  # YOLOv8
        ),
        ([*MMYOLO, 'neck.out_convs.0.bn.bias'], 'keys of both: neck.out_convs.0.bn.bias of mmdet, neck.top_down'),
        ([*list(MMDET)[:8], *list(MMYOLO)[8:]], 'half converted state dict with keys of both: neck.top_down_blocks'),
        ([*MMYOLO, 'neck.reduce_layers.0.conv.weight'], 'got neck.reduce_layers.0.conv.weight, which mmdet'),
        ([*MMYOLO, 'bbox_head.head_module.rtm_kernel.0.bias'], 'without masks or angles, got .*rtm_kernel.0.bias'),
        ([*MMYOLO, 'ema.steps'], 'got ema.steps'),
        (
            [name for name in MMYOLO if 'reduce' not in name],
            r'complete detector, got none under neck.reduce_layers.2.\*',
        ),
    ],
)
def test_other_keys_are_named(names, said):
    with pytest.raises(ValueError, match=said):
        rename(dict.fromkeys(names), 'mmdet')


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        (
            [*MMDET, 'neck.reduce_layers.2.conv.weight'],
            'three levels, .* got neck.reduce_layers.2.conv.weight, which mmy',
        ),
        ([*MMDET, 'bbox_head.rtm_ang.0.bias'], "got bbox_head.rtm_ang.0.bias, which mmyolo's RTMDet does not have"),
        (['neck.out_convs.0.bn.bias'], 'those of RTMDet'),
        (MMYOLO, "got mmyolo's already; there is nothing to convert"),
    ],
)
def test_what_mmyolo_does_not_have(names, said):
    with pytest.raises(ValueError, match=said):
        rename(dict.fromkeys(names), 'mmyolo')


def test_another_stack():
    with pytest.raises(ValueError, match="to must be mmdet or mmyolo, got 'yolov5'"):
        rename(MMYOLO, 'yolov5')
