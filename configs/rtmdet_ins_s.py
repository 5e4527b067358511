"""RTMDet-Ins-s: boxes and masks, 640 px, COCO.

    mim train mmdet configs/rtmdet_ins_s.py --launcher pytorch --gpus 8

Reported for this recipe (mmdet, 8 GPUs x 32 images): mask AP 38.7, box AP 44.0 on val2017.
10.18 M parameters, 18.86 GFLOPs (multiply-adds).

Training starts from OpenMMLab's ImageNet backbone, which is downloaded once. To train without it, add
`--cfg-options model.backbone.init_cfg=None`.
"""

_base_ = 'rtmdet_ins_l.py'

from rtmdet_plugin import find_step

model = dict(
    backbone=dict(
        deepen_factor=0.33,
        widen_factor=0.5,
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone.',
            checkpoint='https://download.openmmlab.com/mmdetection/v3.0/rtmdet/cspnext_rsb_pretrain/'
            'cspnext-s_imagenet_600e.pth',
        ),
    ),
    neck=dict(in_channels=[128, 256, 512], out_channels=128, num_csp_blocks=1),
    bbox_head=dict(in_channels=128, feat_channels=128),
)

# Small sizes use a gentler scale jitter, in both stages.
train_pipeline = _base_.train_pipeline
find_step(train_pipeline, 'RTMCachedMosaicResizeCrop').ratio_range = (0.5, 2.0)
train_pipeline_stage2 = _base_.train_pipeline_stage2
find_step(train_pipeline_stage2, 'RTMRandomResizeCrop').ratio_range = (0.5, 2.0)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(pipeline_switch=dict(switch_pipeline=train_pipeline_stage2))
