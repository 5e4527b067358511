"""Export a checkpoint as an ONNX, OpenVINO or ncnn model that contains its metadata."""
