"""RTMDet-s without channel attention: backbone and neck of the same size.

Reported: 8.54 M parameters, 15.76 GFLOPs, box AP 43.9.
"""

_base_ = '../../configs/rtmdet_s.py'

# OpenMMLab's backbone checkpoint doesn't fit, because it has weights of the attention.
model = dict(backbone=dict(channel_attention=False, init_cfg=None))
