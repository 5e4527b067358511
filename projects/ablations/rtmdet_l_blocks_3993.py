"""Blocks 3-9-9-3, without channel attention. Reported: 53.4 M parameters, 86.28 GFLOPs, box AP 51.4."""

_base_ = 'rtmdet_l_no_attention.py'

# in channels, out channels, blocks, add identity, use SPP
model = dict(
    backbone=dict(
        arch_ovewrite=[
            [64, 128, 3, True, False],
            [128, 256, 9, True, False],
            [256, 512, 9, True, False],
            [512, 1024, 3, False, True],
        ]
    )
)
