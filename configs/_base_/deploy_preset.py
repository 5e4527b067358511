"""Thresholds for use instead of mAP.

In your own config:

    _base_ = ['../rtmdet_s.py', 'deploy_preset.py']
    model = dict(test_cfg=_base_.deploy_test_cfg)

`rtmdet export` and `RTMDetPredictor` use these thresholds for any config; in a config they are for mmdet's own tools. A
test compares the numbers with `rtmdet_runtime.choices.DEPLOY_THRESHOLDS`.

This is a variable and not `model.test_cfg` itself, because two bases must not define the same key.
"""

deploy_test_cfg = dict(
    nms_pre=1000,
    min_bbox_size=0,
    score_thr=0.25,
    nms=dict(type='nms', iou_threshold=0.65),
    max_per_img=100,
)
