"""Kernel 3 in the CSPNeXt blocks, without channel attention. Reported: 50.8 M parameters, 79.61 GFLOPs, box AP 50.0."""

_base_ = 'rtmdet_l_no_attention.py'

model = dict(backbone=dict(kernel_size=3), neck=dict(kernel_size=3))
