"""Data preprocessor, backbone, neck, heads, losses and averaged weights of RTMDet, registered in mmdet's `MODELS`."""

from .cspnext import RTMCSPNeXt
from .cspnext_pafpn import RTMCSPNeXtPAFPN
from .data_preprocessor import RTMDetDataPreprocessor
from .ema import RTMExpMomentumEMA
from .ins_sep_bn_head import RTMInsSepBNHead
from .losses import RTMDiceLoss, RTMGIoULoss, RTMQualityFocalLoss
from .sep_bn_head import RTMSepBNHead

__all__ = [
    'RTMCSPNeXt',
    'RTMCSPNeXtPAFPN',
    'RTMDetDataPreprocessor',
    'RTMDiceLoss',
    'RTMExpMomentumEMA',
    'RTMGIoULoss',
    'RTMInsSepBNHead',
    'RTMQualityFocalLoss',
    'RTMSepBNHead',
]
