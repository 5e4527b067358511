"""RTMDet-nano, 320 px, fine-tuned on blood cells (BCCD) from OpenMMLab's person weights; two CPU cores.

    mim train mmdet projects/blood_cells/rtmdet_nano_blood_cells.py --gpus 0

RTMDET_DATA names the folder with bccd/, RTMDET_WEIGHTS the folder with rtmdet_nano_person.pth. README.md in this folder
has time and AP.
"""

_base_ = '../../configs/rtmdet_nano.py'

data_root = '{{$RTMDET_DATA:data}}'.rstrip('/') + '/bccd/'
# These weights have one class instead of three, so the three convolutions that predict the classes aren't loaded.
load_from = '{{$RTMDET_WEIGHTS:weights}}'.rstrip('/') + '/rtmdet_nano_person.pth'

model = dict(bbox_head=dict(num_classes=3))  # RBC, WBC, Platelets, as in the annotation file

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    pin_memory=False,
    dataset=dict(data_root=data_root, ann_file='annotations/train.json', data_prefix=dict(img='images/')),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(data_root=data_root, ann_file='annotations/val.json', data_prefix=dict(img='images/')),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json', classwise=True)
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=16, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=0.001))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='RTMFlatCosineLR', eta_min_ratio=0.05, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=5, max_keep_ckpts=1),
    ema=dict(momentum=0.002, gamma=100),
    pipeline_switch=dict(num_last_epochs=6, val_interval=3),
)
custom_hooks = [
    dict(type='RTMChannelsLastHook'),
    dict(type='RTMUnfoldNormHook'),  # the batch norms of these weights are folded
]
log_processor = dict(window_size=10)
randomness = dict(seed=0)
