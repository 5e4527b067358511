"""The command `rtmdet engine`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from rtmdet_runtime.choices import ENGINE_BATCHES, ENGINE_PRECISIONS
from rtmdet_runtime.output import check_output, input_files


@click.command('engine')
@click.argument('model', type=click.Path(path_type=Path))
@click.option(
    '-o', '--out', type=click.Path(path_type=Path), required=True, metavar='FILE', help='File to write (.engine).'
)
@click.option(
    '--precision',
    type=click.Choice(ENGINE_PRECISIONS),
    default='fp16',
    show_default=True,
    help='Precision of the layers; int8 needs a model that `rtmdet quantize` wrote for TensorRT.',
)
@click.option(
    '--batches',
    type=int,
    nargs=3,
    metavar='N N N',
    help='Smallest, usual and largest batch size of a model with a dynamic batch. '
    f'Default: {" ".join(map(str, ENGINE_BATCHES))}.',
)
@click.option('--min-size', type=int, nargs=2, metavar='H W', help="Smallest input size. Default: the model's own.")
@click.option(
    '--opt-size',
    type=int,
    nargs=2,
    metavar='H W',
    help="Usual input size, which the engine is optimised for. Default: the model's own.",
)
@click.option('--max-size', type=int, nargs=2, metavar='H W', help="Largest input size. Default: the model's own.")
@click.option(
    '--timing-cache',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help="File (.cache) that keeps the builder's measurements, to build faster the next time.",
)
@click.option(
    '--for-trtexec',
    is_flag=True,
    help='Write the input of trtexec instead of the engine, and print the trtexec command.',
)
def command(model, out, precision, batches, min_size, opt_size, max_size, timing_cache, for_trtexec) -> None:
    """Build a TensorRT engine from MODEL (.onnx), for this machine's GPU and version of TensorRT.

    The model's metadata are written next to the engine, as .engine.json. With --for-trtexec, these are written together
    with the graph, as .engine.onnx, for a machine that has NVIDIA's trtexec but not this package.
    """
    sizes = (min_size, opt_size, max_size)
    if any(sizes) and not all(sizes):
        raise ValueError('--min-size, --opt-size and --max-size must be given together; add the missing ones')
    inputs = input_files([model])
    check_output(out, inputs, ('.engine',))
    if for_trtexec:
        check_output(out.with_name(f'{out.name}.onnx'), inputs, ('.onnx',))
    if timing_cache is not None:
        check_output(timing_cache, inputs, ('.cache',))
    from rtmdet_plugin.tensorrt.engine import build_engine, input_shapes, prepare_trtexec

    shapes = input_shapes(model, batches, sizes if all(sizes) else None)
    settings: dict[str, Any] = dict(precision=precision, shapes=shapes, timing_cache=timing_cache)
    if for_trtexec:
        click.echo(shlex.join(prepare_trtexec(model, out, **settings)))
    else:
        build_engine(model, out, **settings)
        click.echo(f'{out}: {precision}')
