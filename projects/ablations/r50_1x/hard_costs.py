"""All three costs hard: binary target, fixed centre region, 1 - GIoU. Reported: box AP 39.9."""

_base_ = 'dynamic_soft_label.py'

model = dict(train_cfg=dict(assigner=dict(type='RTMHardCostAssigner')))
