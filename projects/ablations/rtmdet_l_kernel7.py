"""Kernel 7 in the CSPNeXt blocks, without channel attention. Reported: 51.1 M parameters, 80.34 GFLOPs, box AP 51.1."""

_base_ = 'rtmdet_l_no_attention.py'

model = dict(backbone=dict(kernel_size=7), neck=dict(kernel_size=7))
