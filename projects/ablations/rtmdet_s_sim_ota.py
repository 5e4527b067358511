"""SimOTA instead of the dynamic soft label assigner. Reported: box AP 43.2 instead of 44.5."""

_base_ = '../../configs/rtmdet_s.py'

model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='RTMSimOTAAssigner', center_radius=2.5)))
