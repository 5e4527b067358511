"""INT8 for OpenVINO by NNCF's post-training quantisation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rtmdet_runtime.choices import FLOAT_PARTS
from rtmdet_runtime.messages import needed_by

from ..export.convert import read_info, save_ir
from .calibration import Track, no_progress
from .quantize import Calibration, check_settings


def quantize_openvino(
    source: str | Path,
    path: str | Path,
    images: Sequence[str | Path],
    *,
    keep_float: Sequence[str] = FLOAT_PARTS,
    tolerance: float = 0.001,
    threads: int | None = None,
    track: Track = no_progress,
) -> dict[str, float]:
    """Write OpenVINO's IR in INT8: `path` (.xml) and its weights next to it (.bin). The write is atomic.

    Args:
        source: see `quantize_onnx`.
        path: file to write (.xml).
        images: see `quantize_onnx`.
        keep_float: see `quantize_onnx`.
        tolerance: see `quantize_onnx`; layers are measured in the same way. The ranges are NNCF's own choice.
        threads: see `quantize_onnx`.
        track: see `quantize_onnx`.

    Returns:
        The layers that stay in float: error by the name of the convolution.

    Raises:
        FileNotFoundError, ValueError: see `quantize_onnx`.
        ImportError: if NNCF or OpenVINO isn't installed.
    """
    path = Path(path)
    check_settings(keep_float, tolerance)
    if path.suffix != '.xml':
        raise ValueError(f'path must end in .xml for the method nncf, got {path}')
    if read_info(source).form == 'trt':
        raise ValueError(f'{source} must have the export format raw, decoded or nms, got trt, which only TensorRT runs')
    with needed_by(f'{path} (method nncf)'):
        import nncf
        import openvino as ov
    calibration = Calibration(source, images, threads, track)
    layers = calibration.sensitive_layers(calibration.ranges('mse'), keep_float, tolerance, 'onnxruntime')
    # NNCF quantises more than the inputs of convolutions, as ONNX Runtime's quantiser does.
    names = calibration.float_nodes(keep_float, layers, 'onnxruntime')
    names += [f'{name}/WithoutBiases' for name in names]  # OpenVINO splits off the addition of the bias
    nncf.set_log_level(logging.ERROR)
    quantized = nncf.quantize(
        ov.Core().read_model(source),
        nncf.Dataset(calibration.images, calibration.input_of),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        # OpenVINO fuses some nodes, so not every name is found.
        ignored_scope=nncf.IgnoredScope(names=names, validate=False),
    )
    save_ir(quantized, path)
    return layers
