"""CSPNeXt-tiny on ImageNet-1k for 600 epochs. Reported (mmdet): top-1 69.44 %, top-5 89.45 %."""

_base_ = 'cspnext_s.py'

model = dict(backbone=dict(deepen_factor=0.167, widen_factor=0.375), head=dict(in_channels=384))
