"""TensorRT; layers use INT8 or float16. INT8 is calibrated on the validation images of the model config."""

_base_ = '_base_/tensorrt_static.py'

backend_config = dict(common_config=dict(fp16_mode=True, int8_mode=True))
calib_config = dict(create_calib=True, calib_file='calib_data.h5')
