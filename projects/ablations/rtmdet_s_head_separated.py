"""No layer of the head is shared between the levels: the row "CSPNeXt + PAFPN" in the steps from YOLOX-s.

Reported: 10.07 M parameters, 14.8 GFLOPs, box AP 41.8 (with YOLOX's assigner, loss and augmentation).
"""

_base_ = '../../configs/rtmdet_s.py'

model = dict(bbox_head=dict(share_conv=False))
