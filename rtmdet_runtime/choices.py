"""Accepted values of settings, importable without PyTorch, ONNX or OpenCV: the help of the commands lists them.

The settings are explained in the modules of `rtmdet_plugin.export` that use them.
"""

DYNAMIC = ('none', 'batch', 'all')
"""Open axes of an exported model: none, the batch, or the batch with height and width."""
OPSETS = range(13, 21)
DEPLOY_THRESHOLDS = dict(score_thr=0.25, iou_thr=0.65, nms_pre=1000, max_per_img=100)
"""Thresholds of an exported model unless others are given. `configs/_base_/deploy_preset.py` and
`configs/deploy/_base_/rtmdet.py` repeat them in mmdet's and mmdeploy's names; a test compares them."""
METHODS = ('minmax', 'mse', 'percentile', 'entropy')
"""Ways to find the range of a tensor."""
PARTS = ('stem', 'attention', 'predictions', 'decode')
"""Parts of a model that can stay in float."""
FLOAT_PARTS = ('attention', 'predictions', 'decode')
"""Parts that stay in float by default."""
TARGETS = ('onnxruntime', 'openvino', 'tensorrt')
"""The runtime that an INT8 file is for. ONNX Runtime computes in 8 bits between Q/DQ nodes: they are around every
operation. OpenVINO and TensorRT join a convolution with its activation by themselves, and round once, at convolutions'
inputs: faster there, and closer to float. TensorRT wants zero points of 0, and weights and biases stored in float."""
TORCH_PRECISIONS = ('float32', 'bfloat16', 'float16')
ENGINE_PRECISIONS = ('fp32', 'fp16', 'int8')
"""int8 takes a graph that was quantised for TensorRT; its other layers compute in FP16. Boxes are decoded in FP32."""
ENGINE_BATCHES = (1, 1, 8)
"""Smallest, usual and largest batch of an engine if no other is given."""
