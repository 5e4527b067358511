"""The COCO dataset, and the two training pipelines at 640 px.

The data is in `data/coco/`, or in the folder that the environment variable RTMDET_COCO names. The class names are
read from the annotation file.
"""

data_root = '{{$RTMDET_COCO:data/coco/}}'.rstrip('/') + '/'

# Both stages use fused transforms, which render only the pixels that remain in the result. To insert transforms of
# mmdet or your own, write the same augmentation as small steps in your config:
#
# from rtmdet_plugin import composable
# train_pipeline = composable(_base_.train_pipeline)
# train_pipeline_stage2 = composable(_base_.train_pipeline_stage2)
# train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
# default_hooks = dict(pipeline_switch=dict(switch_pipeline=train_pipeline_stage2))

# Stage 1: mosaic and MixUp, each with a cache of earlier samples.
train_pipeline = [
    dict(type='RTMLoadImageAndAnnotations', img_scale=(640, 640)),
    dict(
        type='RTMCachedMosaicResizeCrop',
        img_scale=(640, 640),
        ratio_range=(0.1, 2.0),
        crop_size=(640, 640),
        pad_val=114.0,
        max_cached_images=40,
        random_pop=True,
    ),
    dict(type='RTMYOLOXHSVRandomAug'),
    dict(type='RTMRandomFlip', prob=0.5),
    dict(type='Pad', size=(640, 640), pad_val=dict(img=(114, 114, 114))),
    dict(
        type='RTMCachedMixUp',
        img_scale=(640, 640),
        ratio_range=(1.0, 1.0),
        pad_val=114.0,
        max_cached_images=20,
        random_pop=True,
        prob=1.0,
    ),
    dict(type='RTMPackDetInputs'),
]

# Stage 2, the last epochs: large scale jitter only.
train_pipeline_stage2 = [
    dict(type='RTMLoadImageAndAnnotations', img_scale=(1280, 1280)),  # the largest size that the next step resizes to
    dict(type='RTMRandomResizeCrop', scale=(640, 640), ratio_range=(0.1, 2.0), crop_size=(640, 640)),
    dict(type='RTMYOLOXHSVRandomAug'),
    dict(type='RTMRandomFlip', prob=0.5),
    dict(type='Pad', size=(640, 640), pad_val=dict(img=(114, 114, 114))),
    dict(type='RTMPackDetInputs'),
]

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(640, 640), keep_ratio=True),
    dict(type='Pad', size=(640, 640), pad_val=dict(img=(114, 114, 114))),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

# Each dataset also has the settings `on_bad_sample='skip'` (or `'raise'`) and `max_bad_share=0.05` for images and
# annotations that can't be used, and `exif='as_annotated'` for the orientation of images with an EXIF tag. To change
# one, add for example `--cfg-options train_dataloader.dataset.on_bad_sample=raise`. See docs/training.md.
train_dataloader = dict(
    batch_size=32,  # per GPU; 8 GPUs make the batch of 256 that lr 0.004 belongs to
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='rtm_collate'),  # one tensor for the images of a batch
    sampler=dict(type='RTMDefaultSampler', shuffle=True),  # each sample's randomness follows from its place in the run
    dataset=dict(
        type='RTMCocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=5,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RTMCocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='RTMCocoMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric='bbox',
    proposal_nums=(100, 1, 10),
    format_only=False,
)
test_evaluator = val_evaluator
