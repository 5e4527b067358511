"""RTMDet in size l. The other sizes override widths, depths and `exp_on_reg`."""

# Given here, because the published weights weren't trained with mmdet's defaults (eps 1e-3, momentum 0.03).
norm_cfg = dict(type='BN', momentum=0.1, eps=1e-5)
act_cfg = dict(type='SiLU', inplace=True)

model = dict(
    type='RTMDet',
    # With several GPUs, `model_wrapper_cfg` in runtime.py makes the batch norms synchronised.
    use_syncbn=False,
    data_preprocessor=dict(
        type='RTMDetDataPreprocessor',  # like mmdet's, for the batches of `rtm_collate`
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
        # The pipelines already pad to multiples of 32; this is for images that don't come through them. These are
        # padded after normalisation with 0, the mean colour, which is about the grey of 114.
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='RTMCSPNeXt',
        arch='P5',
        deepen_factor=1.0,
        widen_factor=1.0,
        expand_ratio=0.5,
        channel_attention=True,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    neck=dict(
        type='RTMCSPNeXtPAFPN',
        in_channels=[256, 512, 1024],
        out_channels=256,
        num_csp_blocks=3,
        expand_ratio=0.5,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    bbox_head=dict(
        type='RTMSepBNHead',
        num_classes=80,
        in_channels=256,
        feat_channels=256,
        stacked_convs=2,
        share_conv=True,
        pred_kernel_size=1,
        exp_on_reg=True,  # False for nano, tiny and s
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='RTMQualityFocalLoss', beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='RTMGIoULoss', loss_weight=2.0),
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    train_cfg=dict(assigner=dict(type='RTMDynamicSoftLabelAssigner', topk=13)),
    # For mAP: keeps nearly everything, and is slow for users. Exported models get those of deploy_preset.py.
    test_cfg=dict(
        nms_pre=30000,
        min_bbox_size=0,
        score_thr=0.001,
        nms=dict(type='nms', iou_threshold=0.65),
        max_per_img=300,
    ),
)
