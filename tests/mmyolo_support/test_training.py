"""Training with a config of mmyolo that has all of our modules: `mim train mmyolo`, `mim test mmyolo`."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from samples import CLASSES

CONFIG = """
_base_ = 'mmyolo::rtmdet/rtmdet_tiny_syncbn_fast_8xb32-300e_coco.py'
custom_imports = dict(imports=['rtmdet_plugin'])
model = dict(
    backbone=dict(type='mmdet.RTMCSPNeXt', widen_factor=0.125, init_cfg=None),
    neck=dict(type='mmdet.RTMCSPNeXtPAFPN', widen_factor=0.125),
    bbox_head=HEAD,
    train_cfg=dict(assigner=dict(type='mmdet.RTMDynamicSoftLabelAssigner', class_cost='own', dynamic_k='all',
                                 num_classes={num_classes})))
size = (96, 96)
pipeline = [
    dict(type='mmdet.RTMLoadImageAndAnnotations', img_scale=size),
    dict(type='mmdet.RTMCachedMosaicResizeCrop', img_scale=size, ratio_range=(0.5, 2.0), crop_size=size),
    dict(type='mmdet.RTMYOLOXHSVRandomAug'),
    dict(type='mmdet.RTMRandomFlip'),
    dict(type='mmdet.Pad', size=size, pad_val=dict(img=(114, 114, 114))),
    dict(type='mmdet.RTMCachedMixUp', img_scale=size),
    dict(type='mmdet.RTMPackDetInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='YOLOv5KeepRatioResize', scale=size),
    dict(type='LetterResize', scale=size, allow_scale_up=False, pad_val=dict(img=114)),
    dict(type='LoadAnnotations', with_bbox=True, _scope_='mmdet'),
    dict(type='mmdet.PackDetInputs',
         meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'pad_param'))]
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, sampler=dict(type='mmdet.RTMDefaultSampler'),
    collate_fn=dict(_delete_=True, type='yolov5_collate'),
    dataset=dict(type='mmdet.RTMCocoDataset', data_root='{data}/', ann_file='train.json',
                 data_prefix=dict(img='train/'), pipeline=pipeline))
val_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(type='mmdet.RTMCocoDataset', data_root='{data}/', ann_file='val.json', data_prefix=dict(img='val/'),
                 batch_shapes_cfg=dict(batch_size=4, img_size=96), pipeline=test_pipeline, indices=8))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmdet.RTMCocoMetric', ann_file='{data}/val.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1, dynamic_intervals=None)
default_hooks = dict(logger=dict(interval=1))
custom_hooks = [dict(type='EMAHook', ema_type='mmdet.RTMExpMomentumEMA', momentum=0.0002, update_buffers=True,
                     priority=49)]
"""
HEADS = {
    'theirs': """dict(
        head_module=dict(num_classes={num_classes}, widen_factor=0.125),
        loss_cls=dict(type='mmdet.RTMQualityFocalLoss'),
        loss_bbox=dict(type='mmdet.RTMGIoULoss'))""",
    'ours': """dict(
        _delete_=True, type='mmdet.RTMSepBNHead', num_classes={num_classes}, in_channels=32, feat_channels=32)""",
}


@pytest.fixture
def write_config(mmyolo_model, shapes, tmp_path):
    """Return a function that writes the config with one of the heads."""

    def write(head: str) -> Path:
        path = tmp_path / f'{head}.py'
        path.write_text(CONFIG.replace('HEAD', HEADS[head]).format(data=shapes, num_classes=len(CLASSES)))
        return path

    return write


def check_training(output: str) -> None:
    """Check that three steps and one validation were logged."""
    losses = [float(loss) for loss in re.findall(r'Epoch\(train\).* loss: ([\d.]+)', output)]
    assert len(losses) == 3 and all(0 < loss < 1e5 for loss in losses)
    assert 'coco/bbox_mAP' in output


@pytest.mark.parametrize('head', HEADS)
def test_train(mmyolo_model, write_config, tmp_path, monkeypatch, head):
    """The tool that `mim train mmyolo` starts, in this process."""
    tool = Path(mmyolo_model.mmyolo.__file__).parent / '.mim' / 'tools' / 'train.py'
    options = ('--work-dir', tmp_path / 'work', '--cfg-options', f'visualizer.name=mmyolo_{head}')
    monkeypatch.setattr(sys, 'argv', ['train.py', *map(str, (write_config(head), *options))])
    runpy.run_path(str(tool), run_name='__main__')
    (log,) = tmp_path.glob('work/*/*.log')
    check_training(log.read_text())
    names = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=True)['state_dict'].keys()
    assert 'neck.out_convs.0.conv.weight' in names
    assert ('bbox_head.rtm_cls.0.weight' in names) == (head == 'ours')


def mim(*arguments, folder: Path) -> str:
    """Run mim as a user does, with the packages in `folder`."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, [os.environ.get('PYTHONPATH'), str(folder)]))
    command = [sys.executable, '-m', 'mim', *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_mim_with_an_mmrotate_that_refuses_this_stack(write_config, tmp_path):
    (tmp_path / 'mmrotate').mkdir()
    (tmp_path / 'mmrotate' / '__init__.py').write_text("assert False, 'MMDetection==3.3.0 is used but incompatible'")
    config, work_dir = write_config('theirs'), tmp_path / 'work'
    check_training(mim('train', 'mmyolo', config, '--work-dir', work_dir, folder=tmp_path))
    arguments = ('--checkpoint', work_dir / 'epoch_1.pth', '--work-dir', tmp_path / 'test')
    assert 'coco/bbox_mAP' in mim('test', 'mmyolo', config, *arguments, folder=tmp_path)
