"""Label assignment with ResNet-50 and 12 epochs: dynamic soft label assignment. Reported: box AP 41.3.

    mim train mmdet projects/ablations/r50_1x/dynamic_soft_label.py --launcher pytorch --gpus 8

ResNet-50 and FPN as in mmdet's one-stage detectors, with RTMDet's head and losses: four convolutions with GN on each
branch, shared by the five levels. Data and schedule are mmdet's: 1333 x 800 px, no mosaic, 8 GPUs x 2 images. The other
configs of this folder change only the assigner.
"""

_base_ = [
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

custom_imports = dict(imports=['rtmdet_plugin'], allow_failed_imports=False)

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        frozen_stages=1,
        norm_eval=True,
        # The file behind torchvision://resnet50, which mmengine finds only if torchvision is installed.
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth'),
    ),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        start_level=1,
        add_extra_convs='on_output',
        num_outs=5,
    ),
    bbox_head=dict(
        type='RTMSepBNHead',
        num_classes=80,
        in_channels=256,
        feat_channels=256,
        stacked_convs=4,
        share_norm=True,
        exp_on_reg=True,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32, 64, 128]),
        norm_cfg=dict(type='GN', num_groups=32),
        act_cfg=dict(type='ReLU', inplace=True),
    ),
    train_cfg=dict(assigner=dict(type='RTMDynamicSoftLabelAssigner', topk=13)),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100
    ),
)

optim_wrapper = dict(optimizer=dict(lr=0.01))  # half of mmdet's base schedule, as for its ATSS, PAA and TOOD
