"""Post-training INT8 quantisation: calibration, layer sensitivity and the quantised graph."""
