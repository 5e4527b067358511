"""No layer of the head is shared between the levels. Reported: 57.03 M parameters, 80.23 GFLOPs, box AP 51.2."""

_base_ = '../../configs/rtmdet_l.py'

model = dict(bbox_head=dict(share_conv=False))
