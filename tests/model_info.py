"""Metadata of a small model."""

from rtmdet_runtime import ModelInfo

INFO = ModelInfo(
    form='decoded',
    classes=('cat', 'dog'),
    input_size=(64, 96),
    mean=(103.53, 116.28, 123.675),
    std=(57.375, 57.12, 58.395),
    to_rgb=False,
    keep_ratio=True,
    pad_value=(114, 114, 114),
    strides=(8, 16, 32),
    exp_on_reg=False,
    score_thr=0.1,
    iou_thr=0.6,
    nms_pre=1000,
    max_per_img=10,
    version='0',
)
