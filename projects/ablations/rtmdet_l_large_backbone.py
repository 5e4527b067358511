"""A larger backbone and a smaller neck ("63/29 %" in the paper), without channel attention.

Reported: 57.43 M parameters, 93.73 GFLOPs, box AP 51.0.
"""

_base_ = 'rtmdet_l_no_attention.py'

model = dict(backbone=dict(expand_ratio=0.75), neck=dict(expand_ratio=0.25))
