"""TensorRT engines from exported ONNX files, through its Python API or with `trtexec` on another machine.

The network is built with the types that stand in the graph: TensorRT 10 does so where it is asked to, 11 always.
Written after the documentation of these two; it has not been run: the builder needs an NVIDIA GPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from rtmdet_runtime.choices import ENGINE_BATCHES, ENGINE_PRECISIONS
from rtmdet_runtime.messages import needed_by
from rtmdet_runtime.output import check_writable

from ..export.convert import read_info, read_model
from ..export.files import unfinished
from ..export.graph_parts import find_parts
from .half_precision import to_half
from .support import find_unsupported

Shape = tuple[int, int, int, int]


def input_shapes(
    source: str | Path,
    batches: tuple[int, int, int] | None = None,
    sizes: tuple[tuple[int, int], ...] | None = None,
) -> tuple[Shape, Shape, Shape] | None:
    """The smallest, the usual and the largest input of an optimisation profile.

    Args:
        source: an ONNX file of `export_onnx`.
        batches: smallest, usual, largest; of a model with a dynamic batch. None for `ENGINE_BATCHES`.
        sizes: (height, width), smallest, usual, largest; of a model with a dynamic size. None for its own size.

    Returns:
        (B, 3, H, W) each, or None for a model without dynamic axes: it needs no profile.

    Raises:
        FileNotFoundError, ValueError: see `read_model`; ValueError as well for what isn't in order, a size that isn't a
            multiple of the coarsest stride, and either of them for a model without dynamic axes.
    """
    model, info = read_model(source)
    axes = model.graph.input[0].type.tensor_type.shape.dim
    if not any(axis.dim_param for axis in axes):
        if batches is not None or sizes is not None:
            raise ValueError(
                f'batches={batches}, sizes={sizes}, but {source} has a fixed batch and size; accepted: neither, or a '
                'model that was exported with dynamic=batch or dynamic=all'
            )
        return None
    batches, sizes = batches or ENGINE_BATCHES, sizes or (info.input_size,) * 3
    if len(batches) != 3 or batches[0] < 1 or list(batches) != sorted(batches):
        raise ValueError(f'batches={batches}; accepted: smallest, usual, largest, 1 or more')
    divisor = max(info.strides)
    if any(length < divisor or length % divisor for size in sizes for length in size):
        raise ValueError(f'sizes={sizes}; accepted: (height, width), multiples of {divisor}')
    if len(sizes) != 3 or any(list(lengths) != sorted(lengths) for lengths in zip(*sizes, strict=True)):
        raise ValueError(f'sizes={sizes}; accepted: smallest, usual, largest')
    if not axes[2].dim_param and set(sizes) != {info.input_size}:
        raise ValueError(f'{source} was exported for {info.input_size}; other sizes need dynamic=all')
    return tuple((batch, 3, *size) for batch, size in zip(batches, sizes, strict=True))


def prepare_graph(source: str | Path, precision: str) -> onnx.ModelProto:
    """The graph as TensorRT is to get it, with the precision as its types.

    Args:
        source: an ONNX file of `export_onnx` or `quantize_onnx`.
        precision: one of `ENGINE_PRECISIONS`.

    Raises:
        FileNotFoundError, ValueError: see `check_graph`.
    """
    model = check_graph(source, precision)
    # In FP16 a coordinate above 1024 has no fractions.
    return model if precision == 'fp32' else to_half(model, find_parts(model.graph)['decode'])


def check_graph(source: str | Path, precision: str) -> onnx.ModelProto:
    """The graph of a file that TensorRT takes in this precision.

    Raises:
        FileNotFoundError, ValueError: see `read_model`; ValueError as well for an unknown precision, a graph that
            TensorRT doesn't take, int8 without Q/DQ nodes, or another precision with them.
    """
    if precision not in ENGINE_PRECISIONS:
        raise ValueError(f'precision={precision!r}; accepted: {", ".join(ENGINE_PRECISIONS)}')
    model, _ = read_model(source)
    quantized = 'QuantizeLinear' in {node.op_type for node in model.graph.node}
    if problems := find_unsupported(model):
        more = f' and {len(problems) - 1} more' if len(problems) > 1 else ''
        mend = '; quantise it with --target tensorrt' if quantized else ''
        raise ValueError(f'{source}: not for TensorRT: {problems[0]}{more}{mend}')
    if precision == 'int8' and not quantized:
        raise ValueError(f'{source}: precision int8 needs a quantised graph, this one has no QuantizeLinear')
    if precision != 'int8' and quantized:
        raise ValueError(f'{source}: precision={precision!r}, but the graph is quantised; accepted: int8')
    return model


def prepare_trtexec(
    source: str | Path,
    path: str | Path,
    *,
    precision: str = 'fp16',
    shapes: tuple[Shape, Shape, Shape] | None = None,
    timing_cache: str | Path | None = None,
) -> list[str]:
    """Write what an engine needs beside NVIDIA's `trtexec`: its graph, and the JSON file that belongs to it.

    Args:
        source: an ONNX file of `export_onnx` or `quantize_onnx`.
        path: the engine's file (.engine), which isn't written; beside it are the graph, `path`.onnx, and `path`.json.
        precision: one of `ENGINE_PRECISIONS`.
        shapes: from `input_shapes`.
        timing_cache: file that the builder's measurements are kept in, so that the next build is quick.

    Returns:
        The command that builds the engine, as a list of arguments.

    Raises:
        FileNotFoundError, ValueError: see `prepare_graph`; ValueError as well for another ending.
        OSError: where the engine or one of these files can't be written.
    """
    path = Path(path)
    graph = path.with_name(f'{path.name}.onnx')
    _check_outputs(path, graph, _beside(path))
    model = prepare_graph(source, precision)
    with unfinished(_beside(path), graph) as (properties, file):
        properties.write_text(_properties(source))
        file.write_bytes(model.SerializeToString())
    command = ['trtexec', f'--onnx={graph}', f'--saveEngine={path}', '--stronglyTyped']
    command += ['--noTF32'] if precision == 'fp32' else []
    for name, shape in zip(('min', 'opt', 'max'), shapes or (), strict=False):
        command.append(f'--{name}Shapes=images:{"x".join(map(str, shape))}')
    if timing_cache is not None:
        command.append(f'--timingCacheFile={timing_cache}')
    return command


def build_engine(
    source: str | Path,
    path: str | Path,
    *,
    precision: str = 'fp16',
    shapes: tuple[Shape, Shape, Shape] | None = None,
    timing_cache: str | Path | None = None,
) -> None:
    """Build an engine, and write it and beside it `path`.json, with what the ONNX file has as metadata.

    Args:
        source, path, precision, shapes, timing_cache: see `prepare_trtexec`.

    Raises:
        FileNotFoundError, ValueError, OSError: see `prepare_trtexec`; before anything is built.
        ImportError: where TensorRT isn't installed.
        RuntimeError: where TensorRT is too old, finds no GPU, doesn't parse the graph or doesn't build the engine.
    """
    path = Path(path)
    _check_outputs(path, _beside(path), *([] if timing_cache is None else [Path(timing_cache)]))
    model = prepare_graph(source, precision)
    with needed_by(f'{path} (without --for-trtexec)'):
        import tensorrt as trt
    if not hasattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED'):
        raise RuntimeError(f'{path}: tensorrt is {trt.__version__}; accepted: 10 or later')

    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, '')  # EfficientNMS_TRT is one of them
    try:
        builder = trt.Builder(logger)
    except TypeError:  # pybind11's answer to a null pointer
        raise RuntimeError(f'{path}: TensorRT {trt.__version__} does not start here; it needs an NVIDIA GPU') from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        raise RuntimeError(f'TensorRT {trt.__version__} does not parse {source}: {parser.get_error(0)}')
    config = builder.create_builder_config()
    if precision == 'fp32':
        config.clear_flag(trt.BuilderFlag.TF32)  # the default, with 10 bits for the fraction
    if shapes is not None:
        profile = builder.create_optimization_profile()
        profile.set_shape('images', *shapes)
        config.add_optimization_profile(profile)
    if timing_cache is not None:
        cache_file = Path(timing_cache)
        cache = config.create_timing_cache(cache_file.read_bytes() if cache_file.is_file() else b'')
        config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError(f'TensorRT {trt.__version__} does not build {source}; its log above has the reason')
    with unfinished(_beside(path), path) as (properties, file):
        properties.write_text(_properties(source))
        file.write_bytes(bytes(engine))
    if timing_cache is not None:
        with unfinished(cache_file) as (file,):
            file.write_bytes(bytes(config.get_timing_cache().serialize()))


def _check_outputs(engine: Path, *others: Path) -> None:
    if engine.suffix != '.engine':
        raise ValueError(f'{engine}: accepted: a name that ends in .engine')
    for path in (engine, *others):
        check_writable(path)


def _beside(path: Path) -> Path:
    """Not `path` with the ending .json: that is ncnn's, of a model with other outputs."""
    return path.with_name(f'{path.name}.json')


def _properties(source: str | Path) -> str:
    return json.dumps(read_info(source).to_properties(), indent=1) + '\n'
