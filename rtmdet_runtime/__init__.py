"""Run exported RTMDet models with numpy, OpenCV, imagesize and one backend; PyTorch isn't imported.

    from rtmdet_runtime import RTMDetector

    found = RTMDetector('model.onnx')('street.jpg')
    print(found.boxes, found.scores, found.names)

The file that `rtmdet export` wrote contains everything that a prediction needs: classes, input size, normalisation and
thresholds. This package needs nothing from `rtmdet_plugin`, so it can be copied and shipped separately. Only if a
checkpoint is opened, `backends/pytorch.py` imports `rtmdet_plugin` and PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .detections import Detections
    from .detector import RTMDetector
    from .info import FORMS, ModelInfo
    from .masks import Masks

__all__ = ['FORMS', 'Detections', 'Masks', 'ModelInfo', 'RTMDetector']

_MODULES = dict(FORMS='.info', Detections='.detections', Masks='.masks', ModelInfo='.info', RTMDetector='.detector')


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that the help of `rtmdet` needs neither numpy nor OpenCV."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
