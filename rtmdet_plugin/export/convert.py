"""Convert ONNX files of `export_onnx` to the file formats of OpenVINO and ncnn, with their metadata."""

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
    """Read an ONNX file and its metadata.

    Raises:
        FileNotFoundError: if the file doesn't exist.
        ValueError: if it can't be read, wasn't written by this project, or has weights that aren't finite.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such model')
    try:
        model = onnx.load(path)
    except onnx.checker.ValidationError as error:  # its weights are in another file, which is missing
        raise ValueError(f'{path} must be a complete ONNX model, got an error: {error}') from None
    except Exception:  # the exceptions of protobuf differ between its implementations
        raise ValueError(f'{path} must be an ONNX file, got one that can not be read') from None
    if not model.graph.node:
        raise ValueError(f'{path} must be an ONNX file with a graph, got none')
    check_initializers(model, path)
    return model, ModelInfo.from_properties({entry.key: entry.value for entry in model.metadata_props}, path)


def read_info(path: str | Path) -> ModelInfo:
    """Read the metadata of an ONNX file; see `read_model`."""
    return read_model(path)[1]


def to_openvino(source: str | Path, path: str | Path) -> None:
    """Convert an ONNX file to OpenVINO's IR: `path` (.xml), and its weights in float32 (.bin) in the same folder.

    Raises:
        FileNotFoundError, ValueError: see `read_info`; ValueError also if the export format is `trt` or `path` has
            another ending.
        FileExistsError: see `check_bin`.
        ImportError: if OpenVINO isn't installed.
    """
    info, path = read_info(source), Path(path)
    _check(info, path, '.xml')
    with needed_by(str(path)):
        import openvino as ov
    save_ir(ov.Core().read_model(source), path)


def save_ir(model: ov.Model, path: Path) -> None:
    """Write OpenVINO's IR atomically: `path` (.xml), and its weights (.bin) in the same folder.

    Raises:
        OSError: if it can't be written.
    """
    import openvino as ov

    with unfinished(path.with_suffix('.bin'), path) as (_, xml):
        try:
            ov.save_model(model, xml, compress_to_fp16=False)
        except RuntimeError as error:  # on a full disk `iostream error`, without the name of the file
            raise OSError(f'{path} can not be written: OpenVINO: {error}') from None


def to_ncnn(source: str | Path, path: str | Path) -> None:
    """Convert an ONNX file to ncnn: `path` (.param), and the weights in float32 (.bin) and metadata (.json) next to it.

    Raises:
        FileNotFoundError, ValueError: see `read_info`; ValueError also if the export format is `nms` or `trt`, `path`
            has another ending, or the model has dynamic axes.
        FileExistsError: see `check_bin`.
        ImportError: if the converter isn't installed.
        RuntimeError: if the converter fails.
    """
    (model, info), path = read_model(source), Path(path)
    _check(info, path, '.param')
    if info.form == 'nms':
        raise ValueError(
            f'{source} must have the export format raw or decoded for ncnn, which has no NMS nodes, got nms'
        )
    if any(axis.dim_param for axis in model.graph.input[0].type.tensor_type.shape.dim):
        raise ValueError(
            f'{source} must have a fixed size and batch for ncnn, got dynamic axes; export it with dynamic=none'
        )
    with unfinished(path.with_suffix('.bin'), path.with_suffix('.json'), path) as (weights, properties, param):
        (work := param.parent / 'pnnx').mkdir()
        for made, name in zip(run_pnnx(source, work), (param, weights), strict=True):
            made.rename(name)
        properties.write_text(json.dumps(info.to_properties(), indent=1) + '\n')


def _check(info: ModelInfo, path: Path, ending: str) -> None:
    if path.suffix != ending:
        raise ValueError(f'path must end in {ending}, got {path}')
    if info.form == 'trt':
        raise ValueError(f'export format must be raw or decoded for {path}, got trt, which needs TensorRT')
    check_bin(path)


def check_bin(path: Path) -> None:
    """Check that the weights of a new model would not replace those of another one.

    OpenVINO and ncnn both keep weights in a `.bin` file of the model's name.

    Args:
        path: `.xml` or `.param` file to write.

    Raises:
        FileExistsError: if a model of the other kind has the same name.
    """
    other = path.with_suffix('.param' if path.suffix == '.xml' else '.xml')
    if other.exists():
        raise FileExistsError(
            f'{path}: its weights, {path.stem}.bin, would replace those of {other}; choose another name'
        )
