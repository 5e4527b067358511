"""RTMDet-l without channel attention: blocks 3-6-6-3, kernel 5, backbone and neck of the same size.

Reported: 50.92 M parameters, 79.7 GFLOPs, box AP 50.9. This is the base of the studies of kernel, depth, and shares of
backbone and neck.
"""

_base_ = '../../configs/rtmdet_l.py'

model = dict(backbone=dict(channel_attention=False))
