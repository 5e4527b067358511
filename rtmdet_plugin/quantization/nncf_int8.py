"""INT8 for OpenVINO, by NNCF's post-training quantisation."""

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
    """Write OpenVINO's IR in INT8, `path` (.xml) and its weights beside it (.bin); whole or not at all.

    Args:
        source, images, keep_float, tolerance, threads, track: see `quantize_onnx`, by which the layers are measured as
            well. The ranges are NNCF's own choice.
        path: file to write.

    Returns:
        The layers that stay in float: names of convolutions, and their error.

    Raises:
        FileNotFoundError, ValueError: see `quantize_onnx`.
        ImportError: where NNCF or OpenVINO isn't installed.
    """
    path = Path(path)
    check_settings(keep_float, tolerance)
    if path.suffix != '.xml':
        raise ValueError(f'{path}: accepted of NNCF: a name that ends in .xml')
    if read_info(source).form == 'trt':
        raise ValueError(f'{source}: the form trt is for TensorRT alone; accepted: the forms raw, decoded, nms')
    with needed_by(f'{path} (method nncf)'):
        import nncf
        import openvino as ov
    calibration = Calibration(source, images, threads, track)
    layers = calibration.fragile_layers(calibration.ranges('mse'), keep_float, tolerance, 'onnxruntime')
    # NNCF rounds more than the inputs of convolutions, as the files for ONNX Runtime do.
    names = calibration.float_nodes(keep_float, layers, 'onnxruntime')
    names += [f'{name}/WithoutBiases' for name in names]  # OpenVINO has a convolution and an addition
    nncf.set_log_level(logging.ERROR)
    quantized = nncf.quantize(
        ov.Core().read_model(source),
        nncf.Dataset(calibration.images, calibration.input_of),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        # OpenVINO has made one operation of some nodes, so not every name is found.
        ignored_scope=nncf.IgnoredScope(names=names, validate=False),
    )
    save_ir(quantized, path)
    return layers
