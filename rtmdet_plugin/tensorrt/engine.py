"""TensorRT engines from exported ONNX files, through TensorRT's Python API or with `trtexec` on another machine.

The network is strongly typed: it is built with the types in the graph. TensorRT 10 does so if asked to, 11 always.
Written after the documentation of these two versions; not yet run, because the builder needs an NVIDIA GPU.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import json
from pathlib import Path

import onnx

from rtmdet_runtime.atomic_files import check_writable, unfinished
from rtmdet_runtime.choices import ENGINE_BATCHES, ENGINE_PRECISIONS
from rtmdet_runtime.info import INPUT
from rtmdet_runtime.messages import needed_by

from ..export.convert import read_info, read_model
from ..export.graph_parts import find_parts
from .half_precision import to_half
from .support import find_unsupported

Shape = tuple[int, int, int, int]


def input_shapes(
    source: str | Path,
    batches: tuple[int, int, int] | None = None,
    sizes: tuple[tuple[int, ...], ...] | None = None,
) -> tuple[Shape, Shape, Shape] | None:
    """Return the smallest, usual and largest input of an optimisation profile.

    Args:
        source: an ONNX file of `export_onnx`.
        batches: smallest, usual and largest batch of a model with a dynamic batch; None for `ENGINE_BATCHES`.
        sizes: smallest, usual and largest (height, width) of a model with a dynamic size; None for its own size.

    Returns:
        Three shapes (B, 3, H, W), or None for a model without dynamic axes, which needs no profile.

    Raises:
        FileNotFoundError, ValueError: see `read_model`; ValueError also if the values aren't in ascending order, if a
            size isn't a multiple of the coarsest stride, or if either is given for a model without dynamic axes.
    """
    model, info = read_model(source)
    axes = model.graph.input[0].type.tensor_type.shape.dim
    if not any(axis.dim_param for axis in axes):
        if batches is not None or sizes is not None:
            raise ValueError(
                f'batches and sizes must be None for {source}, which has a fixed batch and size, got batches={batches} '
                f'and sizes={sizes}; export the model with dynamic=batch or dynamic=all'
            )
        return None
    batches, sizes = batches or ENGINE_BATCHES, sizes or (info.input_size,) * 3
    if len(batches) != 3 or batches[0] < 1 or list(batches) != sorted(batches):
        raise ValueError(f'batches must be (smallest, usual, largest), each at least 1, got {batches}')
    divisor = max(info.strides)
    if any(length < divisor or length % divisor for size in sizes for length in size):
        raise ValueError(f'sizes must be (height, width) in multiples of {divisor}, got {sizes}')
    if len(sizes) != 3 or any(list(lengths) != sorted(lengths) for lengths in zip(*sizes, strict=True)):
        raise ValueError(f'sizes must be (smallest, usual, largest), got {sizes}')
    if not axes[2].dim_param and set(sizes) != {info.input_size}:
        raise ValueError(
            f'sizes must be {info.input_size}, for which {source} was exported, got {sizes}; export it with dynamic=all'
        )
    shapes = zip(batches, sizes, strict=True)
    smallest, usual, largest = ((batch, 3, height, width) for batch, (height, width) in shapes)
    return smallest, usual, largest


def prepare_graph(source: str | Path, precision: str) -> onnx.ModelProto:
    """Return the graph for TensorRT's builder, with the precision as its types.

    Args:
        source: an ONNX file of `export_onnx` or `quantize_onnx`.
        precision: one of `ENGINE_PRECISIONS`.

    Raises:
        FileNotFoundError, ValueError: see `check_graph`.
    """
    model = check_graph(source, precision)
    # Decoding stays in FP32: in FP16, a coordinate above 1024 has no fractional part.
    return model if precision == 'fp32' else to_half(model, find_parts(model.graph)['decode'])


def check_graph(source: str | Path, precision: str) -> onnx.ModelProto:
    """Read the graph of a file, and check that TensorRT supports it in this precision.

    Raises:
        FileNotFoundError, ValueError: see `read_model`; ValueError also for an unknown precision, a graph that
            TensorRT doesn't support, int8 without Q/DQ nodes, or another precision with them.
    """
    if precision not in ENGINE_PRECISIONS:
        raise ValueError(f'precision must be one of {", ".join(ENGINE_PRECISIONS)}, got {precision!r}')
    model, _ = read_model(source)
    quantized = 'QuantizeLinear' in {node.op_type for node in model.graph.node}
    if problems := find_unsupported(model):
        more = f' and {len(problems) - 1} more' if len(problems) > 1 else ''
        remedy = '; quantise it with --target tensorrt' if quantized else ''
        raise ValueError(f'{source} must be a graph that TensorRT supports, got {problems[0]}{more}{remedy}')
    if precision == 'int8' and not quantized:
        raise ValueError(f'{source} must be quantised for precision int8, got a graph without QuantizeLinear')
    if precision != 'int8' and quantized:
        raise ValueError(f'precision must be int8 for the quantised graph {source}, got {precision!r}')
    return model


def prepare_trtexec(
    source: str | Path,
    path: str | Path,
    *,
    precision: str = 'fp16',
    shapes: tuple[Shape, Shape, Shape] | None = None,
    timing_cache: str | Path | None = None,
) -> list[str]:
    """Write the inputs for NVIDIA's `trtexec`: the engine's graph, and the JSON file that belongs to the engine.

    Args:
        source: an ONNX file of `export_onnx` or `quantize_onnx`.
        path: file of the engine (.engine). It isn't written, but `path`.onnx, the graph, and `path`.json are.
        precision: one of `ENGINE_PRECISIONS`.
        shapes: result of `input_shapes`.
        timing_cache: file that stores the builder's measurements, so that the next build is fast.

    Returns:
        The command that builds the engine, as a list of arguments.

    Raises:
        FileNotFoundError, ValueError: see `prepare_graph`; ValueError also if `path` doesn't end in .engine.
        OSError: if the engine or one of these files can't be written.
    """
    path = Path(path)
    graph = path.with_name(f'{path.name}.onnx')
    _check_outputs(path, graph, _metadata_file(path))
    model = prepare_graph(source, precision)
    with unfinished(_metadata_file(path), graph) as (properties, file):
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
    """Build an engine; write it, and next to it `path`.json with the ONNX file's metadata.

    Args:
        source: see `prepare_trtexec`.
        path: file of the engine (.engine).
        precision: see `prepare_trtexec`.
        shapes: see `prepare_trtexec`.
        timing_cache: see `prepare_trtexec`.

    Raises:
        FileNotFoundError, ValueError, OSError: see `prepare_trtexec`; raised before anything is built.
        ImportError: if TensorRT isn't installed.
        RuntimeError: if TensorRT is too old, finds no GPU, or fails to parse the graph or to build the engine.
    """
    path = Path(path)
    _check_outputs(path, _metadata_file(path), *([] if timing_cache is None else [Path(timing_cache)]))
    model = prepare_graph(source, precision)
    with needed_by(f'{path} (without --for-trtexec)'):
        import tensorrt as trt
    if not hasattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED'):
        raise RuntimeError(f'tensorrt must be version 10 or later to build {path}, got {trt.__version__}')

    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, '')  # EfficientNMS_TRT is one of them
    try:
        builder = trt.Builder(logger)
    except TypeError:  # raised by pybind11 for a null pointer
        raise RuntimeError(f'{path}: TensorRT {trt.__version__} does not start here; it needs an NVIDIA GPU') from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        raise RuntimeError(f'TensorRT {trt.__version__} can not parse {source}: {parser.get_error(0)}')
    config = builder.create_builder_config()
    if precision == 'fp32':
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default; it has a mantissa of only 10 bits
    if shapes is not None:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, *shapes)
        config.add_optimization_profile(profile)
    if timing_cache is not None:
        cache_file = Path(timing_cache)
        cache = config.create_timing_cache(cache_file.read_bytes() if cache_file.is_file() else b'')
        config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError(f'TensorRT {trt.__version__} can not build {source}; see its log above for the reason')
    with unfinished(_metadata_file(path), path) as (properties, file):
        properties.write_text(_properties(source))
        file.write_bytes(bytes(engine))
    if timing_cache is not None:
        with unfinished(cache_file) as (file,):
            file.write_bytes(bytes(config.get_timing_cache().serialize()))


def _check_outputs(engine: Path, *others: Path) -> None:
    if engine.suffix != '.engine':
        raise ValueError(f'path must end in .engine, got {engine}')
    for path in (engine, *others):
        check_writable(path)


def _metadata_file(path: Path) -> Path:
    """Return the engine's metadata file; not `path` with .json as its suffix, which is that of an ncnn model."""
    return path.with_name(f'{path.name}.json')


def _properties(source: str | Path) -> str:
    return json.dumps(read_info(source).to_properties(), indent=1) + '\n'
