"""INT8 after training: calibration, which layers stay in float, and the quantised graph."""
