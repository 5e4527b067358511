"""The folder that `mmdeploy_runtime.Detector` opens: ONNX Runtime, which is the backend in its wheel, any batch.

`pipeline` is for mmdeploy's own test tool: the SDK gets pictures as they are.
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
