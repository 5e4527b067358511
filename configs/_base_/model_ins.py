"""RTMDet-Ins in size l. The other sizes override widths and depths."""

_base_ = 'model.py'

model = dict(
    bbox_head=dict(
        _delete_=True,
        type='RTMInsSepBNHead',
        num_classes=80,
        in_channels=256,
        feat_channels=256,
        stacked_convs=2,
        share_conv=True,
        pred_kernel_size=1,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='RTMQualityFocalLoss', beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='RTMGIoULoss', loss_weight=2.0),
        loss_mask=dict(type='RTMDiceLoss', loss_weight=2.0, eps=5e-6),
        norm_cfg=_base_.norm_cfg,
        act_cfg=_base_.act_cfg,
    ),
    test_cfg=dict(
        nms_pre=1000,
        score_thr=0.05,
        nms=dict(iou_threshold=0.6),
        max_per_img=100,
        mask_thr_binary=0.5,  # score above which a pixel belongs to a mask
    ),
)
