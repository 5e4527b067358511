"""Values of settings, importable without PyTorch, ONNX or OpenCV, so that the help of the commands can list them.

The modules of `rtmdet_plugin.export` that use the settings explain them.
"""

DYNAMIC = ('none', 'batch', 'all')
"""Dynamic axes of an exported model: none, the batch, or the batch, height and width."""
OPSETS = range(13, 21)
DEPLOY_THRESHOLDS = dict(score_thr=0.25, iou_thr=0.65, nms_pre=1000, max_per_img=100)
"""Thresholds of an exported model unless others are given. `configs/_base_/deploy_preset.py` and
`configs/deploy/_base_/rtmdet.py` repeat them under mmdet's and mmdeploy's names; a test compares them."""
TILE_OVERLAP = 0.2
"""Share of a tile that it has in common with the next one; `TiledDetector` explains it."""
METHODS = ('minmax', 'mse', 'percentile', 'entropy')
"""Methods that find the range of a tensor for INT8."""
PARTS = ('stem', 'attention', 'predictions', 'decode')
"""Parts of a model that can stay in float."""
FLOAT_PARTS = ('attention', 'predictions', 'decode')
"""Parts that stay in float by default."""
TARGETS = ('onnxruntime', 'openvino', 'tensorrt')
"""Runtime that an INT8 file is for. ONNX Runtime computes in 8 bits between Q/DQ nodes, so they surround every
operation. OpenVINO and TensorRT fuse a convolution with its activation, so only the inputs of convolutions are rounded,
which is faster and closer to float. TensorRT requires zero points of 0, and weights and biases stored in float."""
CHECKPOINTS = ('.pth', '.safetensors')
"""Endings of checkpoints."""
RECORDS = dict(json='predictions.json', jsonl='predictions.jsonl', csv='predictions.csv', coco='predictions.coco.json')
"""Formats of predictions with one file for all images: its default name."""
LABELS = dict(yolo='labels_yolo', voc='labels_voc')
"""Formats of predictions with one file per image: the default name of their folder."""
MODELS = {size: f'rtmdet_{size}' for size in ('nano', 'tiny', 's', 'm', 'l', 'x')} | {
    f'ins-{size}': f'rtmdet_ins_{size}' for size in ('tiny', 's', 'm', 'l', 'x')
}
"""Models that `rtmdet train` offers, and their configs: sizes of RTMDet, and of RTMDet-Ins, which predicts masks."""
TORCH_PRECISIONS = ('float32', 'bfloat16', 'float16')
PRECISIONS = ('auto', *TORCH_PRECISIONS)
"""Precision that an exported model computes in; `RTMDetector` explains them."""
ENGINE_PRECISIONS = ('fp32', 'fp16', 'int8')
"""int8 needs a graph that was quantised for TensorRT; its float layers run in FP16. Boxes are decoded in FP32."""
ENGINE_BATCHES = (1, 1, 8)
"""Default of the smallest, usual and largest batch size of an engine."""
