"""A small RTMDet, 128 px, from scratch on the images of generate.py; a few minutes on two CPU cores.

    python projects/demo/run.py

Batch, warm-up, number of steps and EMA horizon are smaller than in the base config. 1.04 M parameters.
"""

_base_ = '../../configs/rtmdet_nano.py'

from rtmdet_plugin import find_step, set_input_size

set_input_size(_base_, 128)

data_root = '{{$RTMDET_DEMO_DATA:work_dirs/demo/data}}'.rstrip('/') + '/'
max_epochs = 14

# Half of nano's width in the backbone. In so few steps, ordinary convolutions learn far more than depthwise ones, at
# about the same time per step.
model = dict(
    backbone=dict(widen_factor=0.125, use_depthwise=False),
    neck=dict(in_channels=[32, 64, 128], use_depthwise=False),
    bbox_head=dict(num_classes=4, use_depthwise=False),
)

# Gentler mixing and scale jitter than for photographs.
train_pipeline = _base_.train_pipeline
find_step(train_pipeline, 'RTMCachedMosaicResizeCrop').ratio_range = (0.7, 1.2)
find_step(train_pipeline, 'RTMCachedMixUp').prob = 0.15
train_pipeline_stage2 = _base_.train_pipeline_stage2
find_step(train_pipeline_stage2, 'RTMLoadImageAndAnnotations').img_scale = (160, 160)  # 1.25 x 128
find_step(train_pipeline_stage2, 'RTMRandomResizeCrop').ratio_range = (0.8, 1.25)

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=False),  # images without a shape train as background
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, ann_file='val.json', data_prefix=dict(img='val/')),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=max_epochs, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=0.004))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='RTMFlatCosineLR', eta_min_ratio=0.05, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=4, max_keep_ckpts=1),
    ema=dict(momentum=0.01, gamma=100),
    pipeline_switch=dict(switch_pipeline=train_pipeline_stage2, num_last_epochs=6, val_interval=3),
)
custom_hooks = [dict(type='RTMChannelsLastHook')]
log_processor = dict(window_size=20)
randomness = dict(seed=0)
