"""ONNX files of `export_onnx` to the file formats of OpenVINO and ncnn, with all that they say about themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from rtmdet_runtime import ModelInfo
from rtmdet_runtime.atomic_files import unfinished
from rtmdet_runtime.messages import needed_by

from .graph_parts import check_initializers
from .pnnx import run_pnnx

if TYPE_CHECKING:
    import openvino as ov


def read_model(path: str | Path) -> tuple[onnx.ModelProto, ModelInfo]:
    """An ONNX file, and what it says about itself.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it can't be read, isn't one of ours, or has weights that aren't finite.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such model')
    try:
        model = onnx.load(path)
    except onnx.checker.ValidationError as error:  # its weights are in another file, which isn't there
        raise ValueError(f'{path}: not a whole ONNX model: {error}') from None
    except Exception:  # of protobuf, whose exceptions differ between its implementations
        raise ValueError(f'{path}: not an ONNX file') from None
    if not model.graph.node:
        raise ValueError(f'{path}: not an ONNX file, or one without a graph')
    check_initializers(model, path)
    return model, ModelInfo.from_properties({entry.key: entry.value for entry in model.metadata_props}, path)


def read_info(path: str | Path) -> ModelInfo:
    """What an ONNX file says about itself; see `read_model`."""
    return read_model(path)[1]


def to_openvino(source: str | Path, path: str | Path) -> None:
    """Write OpenVINO's IR, `path` (.xml) and its weights beside it (.bin), in float32.

    Raises:
        FileNotFoundError, ValueError: see `read_info`; ValueError as well for the form `trt` and other endings.
        FileExistsError: see `check_bin`.
        ImportError: where OpenVINO isn't installed.
    """
    info, path = read_info(source), Path(path)
    _check(info, path, '.xml')
    with needed_by(str(path)):
        import openvino as ov
    save_ir(ov.Core().read_model(source), path)


def save_ir(model: ov.Model, path: Path) -> None:
    """Write OpenVINO's IR, `path` (.xml) and its weights beside it (.bin), completely or not at all.

    Raises:
        OSError: if it can't be written.
    """
    import openvino as ov

    with unfinished(path.with_suffix('.bin'), path) as (_, xml):
        try:
            ov.save_model(model, xml, compress_to_fp16=False)
        except RuntimeError as error:  # a full disk is `iostream error`, without a name
            raise OSError(f'{path} can not be written: OpenVINO: {error}') from None


def to_ncnn(source: str | Path, path: str | Path) -> None:
    """Write ncnn's files: `path` (.param), and beside it the weights in float32 (.bin) and the metadata (.json).

    Raises:
        FileNotFoundError, ValueError: see `read_info`; ValueError as well for the forms `nms` and `trt`, other endings,
            and models with dynamic axes.
        FileExistsError: see `check_bin`.
        ImportError: where the converter isn't installed.
        RuntimeError: where it fails.
    """
    (model, info), path = read_model(source), Path(path)
    _check(info, path, '.param')
    if info.form == 'nms':
        raise ValueError(f'{source}: ncnn has no NonMaxSuppression (form nms); accepted: the forms raw, decoded')
    if any(axis.dim_param for axis in model.graph.input[0].type.tensor_type.shape.dim):
        raise ValueError(f'{source}: ncnn takes models of a fixed size and batch; export it with dynamic=none')
    with unfinished(path.with_suffix('.bin'), path.with_suffix('.json'), path) as (weights, properties, param):
        (work := param.parent / 'pnnx').mkdir()
        for made, name in zip(run_pnnx(source, work), (param, weights), strict=True):
            made.rename(name)
        properties.write_text(json.dumps(info.to_properties(), indent=1) + '\n')


def _check(info: ModelInfo, path: Path, ending: str) -> None:
    if path.suffix != ending:
        raise ValueError(f'{path}: accepted: a name that ends in {ending}')
    if info.form == 'trt':
        raise ValueError(f'{path}: the form trt is for TensorRT alone; accepted: the forms raw, decoded')
    check_bin(path)


def check_bin(path: Path) -> None:
    """Refuse weights that would take the place of another model's: OpenVINO and ncnn both keep them in `.bin`.

    Args:
        path: of the `.xml` or the `.param` that is to be written.

    Raises:
        FileExistsError: where there is the other one of the two.
    """
    other = path.with_suffix('.param' if path.suffix == '.xml' else '.xml')
    if other.exists():
        raise FileExistsError(
            f'{path}: its weights, {path.stem}.bin, would take the place of those of {other}; accepted: another name'
        )
