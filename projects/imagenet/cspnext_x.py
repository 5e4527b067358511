"""CSPNeXt-x on ImageNet-1k for 600 epochs. Reported (mmdet): top-1 82.10 %, top-5 95.69 %."""

_base_ = 'cspnext_s.py'

model = dict(backbone=dict(deepen_factor=1.33, widen_factor=1.25), head=dict(in_channels=1280))
