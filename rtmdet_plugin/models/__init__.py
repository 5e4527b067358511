"""Data preprocessor, backbone, neck, head, losses and averaged weights of RTMDet, registered in mmdet's `MODELS`."""

from .cspnext import RTMCSPNeXt
from .cspnext_pafpn import RTMCSPNeXtPAFPN
from .data_preprocessor import RTMDetDataPreprocessor
from .ema import RTMExpMomentumEMA
from .losses import RTMGIoULoss, RTMQualityFocalLoss
from .sep_bn_head import RTMSepBNHead

__all__ = [
    'RTMCSPNeXt',
    'RTMCSPNeXtPAFPN',
    'RTMDetDataPreprocessor',
    'RTMExpMomentumEMA',
    'RTMGIoULoss',
    'RTMQualityFocalLoss',
    'RTMSepBNHead',
]
