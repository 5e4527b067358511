"""TensorRT, one image of a fixed size. `rtmdet mmdeploy` replaces 640 x 640 with the size of the graph."""

_base_ = 'rtmdet.py'

backend_config = dict(
    type='tensorrt',
    common_config=dict(fp16_mode=False, int8_mode=False, max_workspace_size=1 << 30),
    model_inputs=[
        dict(
            input_shapes=dict(
                input=dict(min_shape=[1, 3, 640, 640], opt_shape=[1, 3, 640, 640], max_shape=[1, 3, 640, 640])
            )
        )
    ],
)
