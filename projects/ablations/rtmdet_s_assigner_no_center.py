"""The dynamic soft label assigner without its soft centre prior.

The paper compares the terms on R50 with 12 epochs; it reports no figure for this size and schedule.
"""

_base_ = '../../configs/rtmdet_s.py'

model = dict(train_cfg=dict(assigner=dict(center_weight=0.0)))
