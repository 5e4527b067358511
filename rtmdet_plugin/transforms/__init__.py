"""Loading, mixing and packing of training samples, registered in mmdet's `TRANSFORMS`."""

from .flip import RTMRandomFlip
from .hsv import RTMYOLOXHSVRandomAug
from .loading import RTMLoadImageAndAnnotations, RTMLoadImageFromFile
from .mixup import RTMCachedMixUp
from .mosaic import RTMCachedMosaic
from .mosaic_resize_crop import RTMCachedMosaicResizeCrop
from .packing import RTMPackDetInputs
from .resize_crop import RTMRandomResizeCrop
from .sample_cache import SampleCache

__all__ = [
    'RTMCachedMixUp',
    'RTMCachedMosaic',
    'RTMCachedMosaicResizeCrop',
    'RTMLoadImageAndAnnotations',
    'RTMLoadImageFromFile',
    'RTMPackDetInputs',
    'RTMRandomFlip',
    'RTMRandomResizeCrop',
    'RTMYOLOXHSVRandomAug',
    'SampleCache',
]
