"""Run exported RTMDet models with numpy, OpenCV and one backend; PyTorch isn't imported.

    from rtmdet_runtime import RTMDetector

    detections = RTMDetector('model.onnx').predict('street.jpg')

Everything that a prediction needs is in the file that `rtmdet export` wrote: classes, input size, normalisation,
thresholds. The folder has no imports from `rtmdet_plugin`, so it can be copied and shipped by itself.
"""

from .detector import Detections, RTMDetector
from .info import FORMS, ModelInfo

__all__ = ['FORMS', 'Detections', 'ModelInfo', 'RTMDetector']
