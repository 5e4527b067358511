"""RTMDet-nano, 320 px, COCO's 80 classes.

    mim train mmdet configs/rtmdet_nano.py --launcher pytorch --gpus 8

The network of OpenMMLab's person detector (see rtmdet_nano_person.py) with 80 classes; no AP has been
reported for it. All convolutions are depthwise, and none is shared between the pyramid levels. The backbone
isn't pretrained.
"""

_base_ = 'rtmdet_tiny.py'

model = dict(
    backbone=dict(deepen_factor=0.33, widen_factor=0.25, use_depthwise=True, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256], out_channels=64, use_depthwise=True),
    bbox_head=dict(in_channels=64, feat_channels=64, share_conv=False, use_depthwise=True),
)

# Half the side length, everywhere.
train_pipeline = _base_.train_pipeline
train_pipeline[0].img_scale = (320, 320)  # RTMLoadImageAndAnnotations
train_pipeline[1].update(img_scale=(320, 320), crop_size=(320, 320))  # RTMCachedMosaicResizeCrop
train_pipeline[4].size = (320, 320)  # Pad
train_pipeline[5].img_scale = (320, 320)  # RTMCachedMixUp
train_pipeline_stage2 = _base_.train_pipeline_stage2
train_pipeline_stage2[0].img_scale = (640, 640)  # RTMLoadImageAndAnnotations
train_pipeline_stage2[1].update(scale=(320, 320), crop_size=(320, 320))  # RTMRandomResizeCrop
train_pipeline_stage2[4].size = (320, 320)  # Pad
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (320, 320)  # Resize
test_pipeline[2].size = (320, 320)  # Pad

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(pipeline_switch=dict(switch_pipeline=train_pipeline_stage2))
