"""Backbone, neck and head of RTMDet, registered in mmdet's ``MODELS``."""

from .cspnext import RTMCSPNeXt
from .cspnext_pafpn import RTMCSPNeXtPAFPN
from .sep_bn_head import RTMSepBNHead

__all__ = ['RTMCSPNeXt', 'RTMCSPNeXtPAFPN', 'RTMSepBNHead']
