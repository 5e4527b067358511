"""mmdeploy's SDK (`mmdeploy_runtime.Detector`) with ONNX Runtime, the backend in its wheel; any batch size.

`pipeline` is for mmdeploy's own test tool: the SDK receives unprocessed images.
"""

_base_ = 'onnxruntime_dynamic.py'

codebase_config = dict(model_type='sdk')
backend_config = dict(
    type='sdk',
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
    ],
)
