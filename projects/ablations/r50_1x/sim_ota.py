"""SimOTA, the approximation of OTA that mmdet has. Reported for OTA: box AP 40.7."""

_base_ = 'dynamic_soft_label.py'

model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='RTMSimOTAAssigner', center_radius=2.5)))
