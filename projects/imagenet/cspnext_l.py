"""CSPNeXt-l on ImageNet-1k for 600 epochs. Reported (mmdet): top-1 81.30 %, top-5 95.62 %."""

_base_ = 'cspnext_s.py'

model = dict(backbone=dict(deepen_factor=1.0, widen_factor=1.0), head=dict(in_channels=1024))
