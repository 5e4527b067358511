"""CSPNeXt-m on ImageNet-1k for 600 epochs. Reported (mmdet): top-1 79.27 %, top-5 94.79 %."""

_base_ = 'cspnext_s.py'

model = dict(backbone=dict(deepen_factor=0.67, widen_factor=0.75), head=dict(in_channels=768))
