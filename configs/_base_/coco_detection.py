"""COCO, and the two training pipelines at 640 px.

The data is looked for in `data/coco/`, or where the environment variable RTMDET_COCO says. Classes come from
the annotation file; there is no list of names to keep in step with it.
"""

data_root = '{{$RTMDET_COCO:data/coco/}}'.rstrip('/') + '/'

# Both stages take the fast path, whose steps render only the pixels that survive. The same augmentation as a chain of
# small steps, into which any mmdet transform fits, for a config of your own:
#
# from rtmdet_plugin import composable
# train_pipeline = composable(_base_.train_pipeline)
# train_pipeline_stage2 = composable(_base_.train_pipeline_stage2)
# train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
# default_hooks = dict(pipeline_switch=dict(switch_pipeline=train_pipeline_stage2))

# Stage 1: mosaic and MixUp, each out of a cache of earlier samples.
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

# Stage 2, the last epochs: large scale jitter alone.
train_pipeline_stage2 = [
    dict(type='RTMLoadImageAndAnnotations', img_scale=(1280, 1280)),  # the largest that the next step makes of it
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

# Of each data set: `on_bad_sample='skip'` (or `'raise'`) and `max_bad_share=0.05` say what a picture or an annotation
# that can't be used does to the run, `exif='as_annotated'` which way up pictures with an EXIF tag are taken. These are
# the defaults; `--cfg-options train_dataloader.dataset.on_bad_sample=raise`. See docs/reliability.md.
train_dataloader = dict(
    batch_size=32,  # a GPU; 8 of them make the 256 that lr 0.004 belongs to
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='rtm_collate'),  # one tensor for the images of a batch
    sampler=dict(type='RTMDefaultSampler', shuffle=True),  # each sample follows from its place in the run
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
