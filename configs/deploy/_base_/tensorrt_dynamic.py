"""TensorRT, batches of 1 to 8 images between 320 and 1280 px."""

_base_ = 'dynamic.py'

backend_config = dict(
    type='tensorrt',
    common_config=dict(fp16_mode=False, int8_mode=False, max_workspace_size=1 << 30),
    model_inputs=[
        dict(
            input_shapes=dict(
                input=dict(min_shape=[1, 3, 320, 320], opt_shape=[1, 3, 640, 640], max_shape=[8, 3, 1280, 1280])
            )
        )
    ],
)
