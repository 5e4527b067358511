"""Mixing transforms, registered in mmdet's ``TRANSFORMS``."""

from .mixup import RTMCachedMixUp
from .mosaic import RTMCachedMosaic
from .sample_cache import SampleCache

__all__ = ['RTMCachedMixUp', 'RTMCachedMosaic', 'SampleCache']
