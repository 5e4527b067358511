"""Settings of all deploy configs: the exported graph, and the post-processing.

Images are resized and padded as in the model config's test pipeline. `onnx_config.input_shape = (width, height)`
changes the size.
"""

onnx_config = dict(
    type='onnx',
    export_params=True,
    keep_initializers_as_inputs=False,
    opset_version=11,
    save_file='end2end.onnx',
    input_names=['input'],
    output_names=['dets', 'labels'],
    input_shape=None,
    optimize=False,
)

codebase_config = dict(
    type='mmdet',
    task='ObjectDetection',
    model_type='end2end',
    module=['rtmdet_plugin.mmdeploy_support'],
    # These take precedence over the model config's `test_cfg`, which is used for settings that aren't here. To remove
    # some, write your own with `_delete_=True`. A test compares the numbers with
    # `rtmdet_runtime.choices.DEPLOY_THRESHOLDS`.
    post_processing=dict(
        score_threshold=0.25,
        iou_threshold=0.65,
        pre_top_k=1000,
        max_output_boxes_per_class=100,
        keep_top_k=100,
    ),
)
