"""TensorRT: engines, half precision, and what TensorRT supports."""
