"""A larger backbone and a smaller neck ("63/29 %" in the paper), without channel attention.

Reported: 9.01 M parameters, 15.85 GFLOPs, box AP 43.7.
"""

_base_ = 'rtmdet_s_no_attention.py'

model = dict(backbone=dict(expand_ratio=0.75), neck=dict(expand_ratio=0.25))
