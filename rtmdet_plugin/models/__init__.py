"""Data preprocessor, backbone, neck, head and losses of RTMDet, registered in mmdet's `MODELS`."""

from .cspnext import RTMCSPNeXt
from .cspnext_pafpn import RTMCSPNeXtPAFPN
from .data_preprocessor import RTMDetDataPreprocessor
from .losses import RTMGIoULoss, RTMQualityFocalLoss
from .sep_bn_head import RTMSepBNHead

__all__ = [
    'RTMCSPNeXt',
    'RTMCSPNeXtPAFPN',
    'RTMDetDataPreprocessor',
    'RTMGIoULoss',
    'RTMQualityFocalLoss',
    'RTMSepBNHead',
]
