"""CSPNeXt-s on ImageNet-1k for 600 epochs, the pretraining of RTMDet-s's backbone; needs mmpretrain 1.2.

    mim train mmpretrain projects/imagenet/cspnext_s.py --launcher pytorch --gpus 8

Reported for this recipe (mmdet): top-1 74.41 %, top-5 92.23 %. README.md compares it with "A1" of ResNet Strikes Back.

All settings are in this file and none in a base of mmpretrain, so that it loads without mmpretrain.
"""

custom_imports = dict(imports=['rtmdet_plugin'], allow_failed_imports=False)
default_scope = 'mmpretrain'

norm_cfg = dict(type='BN', momentum=0.1, eps=1e-5)
act_cfg = dict(type='SiLU', inplace=True)
model = dict(
    type='ImageClassifier',
    # RGB is the order of mmdet's pretrained weights; RTMDet's BGR comes with fine-tuning, as in mmdet.
    data_preprocessor=dict(num_classes=1000, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(
        type='mmdet.RTMCSPNeXt',
        deepen_factor=0.33,
        widen_factor=0.5,
        out_indices=(4,),
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        topk=(1, 5),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]),
)

bicubic = dict(backend='pillow', interpolation='bicubic')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, **bicubic),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=7,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),  # the mean colour in BGR
    ),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=236, edge='short', **bicubic),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

loader = dict(batch_size=256, num_workers=5, persistent_workers=True)
train_dataloader = dict(
    dataset=dict(type='ImageNet', data_root='data/imagenet', split='train', pipeline=train_pipeline),
    sampler=dict(type='RepeatAugSampler', shuffle=True),
    **loader,
)
val_dataloader = dict(
    dataset=dict(type='ImageNet', data_root='data/imagenet', split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **loader,
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1, 5))

max_epochs, warm_up = 600, 5
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='Lamb', lr=0.005, weight_decay=0.01),  # for 8 GPUs x 256 images
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
)
auto_scale_lr = dict(base_batch_size=2048)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=warm_up, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=warm_up, end=max_epochs, T_max=max_epochs - warm_up),
]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3))
