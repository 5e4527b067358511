"""RTMDet-Ins-tiny: boxes and masks, 640 px, COCO.

    mim train mmdet configs/rtmdet_ins_tiny.py --launcher pytorch --gpus 8

Reported for this recipe (mmdet, 8 GPUs x 32 images): mask AP 35.4, box AP 40.5 on val2017.
5.64 M parameters, 10.38 GFLOPs (multiply-adds).

Training starts from OpenMMLab's ImageNet backbone, which is downloaded once. To train without it, add
`--cfg-options model.backbone.init_cfg=None`.
"""

_base_ = 'rtmdet_ins_s.py'

from rtmdet_plugin import find_step

model = dict(
    backbone=dict(
        deepen_factor=0.167,
        widen_factor=0.375,
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmdetection/v3.0/rtmdet/cspnext_rsb_pretrain/'
            'cspnext-tiny_imagenet_600e.pth',
        ),
    ),
    neck=dict(in_channels=[96, 192, 384], out_channels=96),
    bbox_head=dict(in_channels=96, feat_channels=96),
)

# Gentler mixing: caches of half the size that drop their oldest sample, and MixUp for half of the images. The others
# get no objects from it, so their crop must show one. mmdet's tiny doesn't recompute boxes in stage 1; its other sizes
# do.
train_pipeline = _base_.train_pipeline
find_step(train_pipeline, 'RTMCachedMosaicResizeCrop').update(
    max_cached_images=20, random_pop=False, allow_negative_crop=False
)
find_step(train_pipeline, 'RTMCachedMixUp').update(max_cached_images=10, random_pop=False, prob=0.5)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
