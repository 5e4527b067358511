"""From a checkpoint to an ONNX, OpenVINO or ncnn model that describes itself."""
