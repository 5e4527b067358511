"""TensorRT engines from exported ONNX files, through its Python API or as a `trtexec` command.

Written after the documentation of TensorRT 8.6 to 10; it has not been run: the builder needs an NVIDIA GPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from .convert import read_info
from .files import unfinished
from .tensorrt_support import find_unsupported

PRECISIONS = ('fp32', 'fp16', 'int8')
"""int8 takes a graph with Q/DQ nodes; what has none is computed in FP16."""
Shape = tuple[int, int, int, int]


def input_shapes(
    source: str | Path,
    batches: tuple[int, int, int] = (1, 1, 8),
    sizes: tuple[tuple[int, int], ...] | None = None,
) -> tuple[Shape, Shape, Shape] | None:
    """The smallest, the usual and the largest input of an optimisation profile.

    Args:
        source: an ONNX file of `export_onnx`.
        batches: smallest, usual, largest; of a model with a dynamic batch.
        sizes: (height, width), smallest, usual, largest; of a model with a dynamic size. None for its own size.

    Returns:
        (B, 3, H, W) each, or None for a model without dynamic axes: it needs no profile.

    Raises:
        FileNotFoundError, ValueError: see `read_info`; ValueError as well for what isn't in order, or a size that isn't
            a multiple of the coarsest stride.
    """
    info = read_info(source)
    axes = onnx.load(source, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    if not any(axis.dim_param for axis in axes):
        return None
    sizes = sizes or (info.input_size,) * 3
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


def trtexec_command(
    source: str | Path,
    path: str | Path,
    *,
    precision: str = 'fp16',
    shapes: tuple[Shape, Shape, Shape] | None = None,
    timing_cache: str | Path | None = None,
) -> list[str]:
    """The command that builds an engine with NVIDIA's `trtexec`, as a list of arguments.

    Args:
        source: an ONNX file of `export_onnx`.
        path: the engine's file.
        precision: one of `PRECISIONS`.
        shapes: from `input_shapes`.
        timing_cache: file that the builder's measurements are kept in, so that the next build is quick.

    Raises:
        ValueError: for an unknown precision.
    """
    _check_precision(precision)
    command = ['trtexec', f'--onnx={source}', f'--saveEngine={path}']
    command += {'fp32': [], 'fp16': ['--fp16'], 'int8': ['--int8', '--fp16']}[precision]
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
    """Build an engine, and write it and a JSON file beside it with what the ONNX file has as metadata.

    Args:
        source, path, precision, shapes, timing_cache: see `trtexec_command`.

    Raises:
        FileNotFoundError, ValueError: see `read_info`; ValueError as well for an unknown precision, a graph that isn't
            on TensorRT's list, or int8 without Q/DQ nodes.
        ImportError: where TensorRT isn't installed; the message has the `trtexec` command.
        RuntimeError: where TensorRT doesn't parse the graph or build the engine.
    """
    info, path = read_info(source), Path(path)
    check_graph(source, precision)
    settings = dict(precision=precision, shapes=shapes, timing_cache=timing_cache)
    try:
        import tensorrt as trt
    except ModuleNotFoundError:
        command = ' '.join(trtexec_command(source, path, **settings))
        raise ImportError(f'{path} needs tensorrt, which is not installed; elsewhere: {command}') from None

    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, '')  # EfficientNMS_TRT is one of them
    builder = trt.Builder(logger)
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, 'EXPLICIT_BATCH'):  # the only kind there is, from 10 on
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(Path(source).read_bytes()):
        raise RuntimeError(f'TensorRT does not parse {source}: {parser.get_error(0)}')
    config = builder.create_builder_config()
    for name in {'fp32': (), 'fp16': ('FP16',), 'int8': ('INT8', 'FP16')}[precision]:
        config.set_flag(getattr(trt.BuilderFlag, name))
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
        raise RuntimeError(f'TensorRT does not build {source}; its log above has the reason')
    with unfinished(path.with_suffix('.json'), path) as (properties, file):
        properties.write_text(json.dumps(info.to_properties(), indent=1) + '\n')
        file.write_bytes(bytes(engine))
    if timing_cache is not None:
        with unfinished(cache_file) as (file,):
            file.write_bytes(bytes(config.get_timing_cache().serialize()))


def check_graph(source: str | Path, precision: str) -> None:
    """Raise a `ValueError` for a graph that TensorRT doesn't take, or not in this precision."""
    _check_precision(precision)
    model = onnx.load(source)
    if problems := find_unsupported(model):
        more = f' and {len(problems) - 1} more' if len(problems) > 1 else ''
        raise ValueError(f'{source}: not for TensorRT: {problems[0]}{more}')
    if precision == 'int8' and 'QuantizeLinear' not in {node.op_type for node in model.graph.node}:
        raise ValueError(f'{source}: precision int8 needs a quantised graph, this one has no QuantizeLinear')


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f'precision={precision!r}; accepted: {", ".join(PRECISIONS)}')
