"""The command `rtmdet benchmark`."""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rtmdet_runtime.backends import BACKENDS
from rtmdet_runtime.choices import TORCH_PRECISIONS
from rtmdet_runtime.output import STDOUT, check_json, input_files, write_json

from .options import THREADS, size_option

if TYPE_CHECKING:
    from rtmdet_runtime import RTMDetector
    from rtmdet_runtime.image import Image

FIGURES = r'\{\s*"machine"\s*:'
"""Pattern of the beginning of the JSON file."""
REDUCING = ('openvino', 'ncnn')
"""Backends that can compute in a lower precision than the file's."""


def print_rows(title: str, rows: list[dict], err: bool) -> None:
    """Print a table of rows with the same keys, on standard error if `err`."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], title=title)
    for row in rows:
        cells = (
            '-' if value is None else f'{value:.1f}' if isinstance(value, float) else value for value in row.values()
        )
        table.add_row(*map(str, cells))
    Console(stderr=err).print(table)


def open_models(models, backends, threads, size, score_thr, reduced_precision) -> dict[str, RTMDetector]:
    """Return exported models by name: each on every selected backend that reads it, with each number of threads.

    Raises:
        ValueError: if no selected backend reads a model; see `RTMDetector` as well.
    """
    from rtmdet_runtime import RTMDetector

    detectors = {}
    for model in models:
        readers = [name for name, (_, _, endings) in BACKENDS.items() if model.suffix in endings]
        chosen = [name for name in readers if name in backends] if backends else readers[:1] or [None]
        if not chosen:
            raise ValueError(f'--backend must be {" or ".join(readers)} for {model}, got {", ".join(backends)}')
        for backend, count in itertools.product(chosen, threads or (None,)):
            reduces = reduced_precision and backend in REDUCING
            for reduced in (False, True) if reduces else (False,):
                settings = [backend, *([f'{count} threads'] if count else []), *(['reduced'] if reduced else [])]
                detectors[', '.join([str(model), *map(str, settings)])] = RTMDetector(
                    model, backend=backend, size=size, score_thr=score_thr, threads=count, reduced_precision=reduced
                )
    return detectors


def open_checkpoint(config, checkpoint, precisions, device, compile, cuda_graphs, **settings) -> dict[str, RTMDetector]:
    """Return predictors of a checkpoint in PyTorch by name, one for each precision."""
    import torch

    from rtmdet_plugin.inference.predictor import RTMDetPredictor

    switches = [*(['compiled'] if compile else []), *(['CUDA graphs'] if cuda_graphs else [])]
    threads = [f'{torch.get_num_threads()} threads'] if device == 'cpu' else []
    return {
        ', '.join([checkpoint, 'PyTorch', precision, device, *threads, *switches]): RTMDetPredictor(
            config,
            checkpoint,
            precision=precision,
            compile=compile,
            cuda_graphs=cuda_graphs,
            device=device,
            **settings,
        )
        for precision in precisions
    }


def fixed_batches(detectors: Mapping[str, RTMDetector], batches: Iterable[int]) -> list[str]:
    """Return a line for each model whose fixed batch size differs from a requested one."""
    lines = []
    for name, detector in detectors.items():
        fixed = detector.backend.batch
        others = [str(batch) for batch in batches if fixed not in (None, batch)]
        if others:
            lines.append(
                f'{name}: --batch {", ".join(others)} is not measured, because the batch size of the model is fixed at '
                f'{fixed}, which is measured instead; export it with --dynamic batch to measure others'
            )
    return lines


def rounded(result: dict) -> dict:
    """Return the results rounded to three decimals; times are in milliseconds."""
    tables = {
        title: [
            {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()} for row in rows
        ]
        for title, rows in result.items()
        if title != 'machine'
    }
    return dict(machine=result['machine'], **tables)


def machine() -> dict[str, str]:
    """Return the CPU, its number of cores, and the versions of the backends."""
    versions = {name: version(name) for name in ('onnxruntime', 'openvino', 'ncnn', 'torch') if find_spec(name)}
    return dict(cpu=platform.processor() or platform.machine(), cores=str(os.cpu_count()), **versions)


def load_image(image: Path | None) -> Image:
    """Return the image in a file, or noise if that is None: BGR, uint8, (H, W, 3)."""
    import numpy as np

    from rtmdet_runtime.image import read_image

    return np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8) if image is None else read_image(image)


@click.command('benchmark')
@click.argument('models', type=click.Path(path_type=Path), nargs=-1)
@click.option(
    '--backend',
    'backends',
    type=click.Choice(list(BACKENDS)),
    multiple=True,
    help='Run each model on this backend, if it reads the model. May be repeated. Default: by the ending of the file.',
)
@click.option(
    '--threads',
    type=THREADS,
    multiple=True,
    metavar='N',
    help="Number of CPU threads. May be repeated. Default: the backend's.",
)
@click.option(
    '--image',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='Image to predict. Default: noise, in which few objects are found.',
)
@click.option(
    '--batch',
    'batches',
    type=click.IntRange(1),
    multiple=True,
    metavar='N',
    help='Also measure the throughput with this batch size. May be repeated.',
)
@click.option(
    '--rounds', type=click.IntRange(1), default=30, show_default=True, metavar='N', help='Number of measured calls.'
)
@size_option
@click.option('--score-thr', type=float, metavar='0..1', help="Score threshold. Default: the model's own.")
@click.option('--reduced-precision', is_flag=True, help='Also measure OpenVINO and ncnn in reduced precision.')
@click.option('--torch', 'trained', nargs=2, metavar='CONFIG CHECKPOINT', help='Also measure a checkpoint in PyTorch.')
@click.option(
    '--precision',
    'precisions',
    type=click.Choice(TORCH_PRECISIONS),
    multiple=True,
    default=['float32'],
    show_default=True,
    help='Precision of --torch. May be repeated.',
)
@click.option(
    '--device', metavar='NAME', default='cpu', show_default=True, help='Device of --torch: cpu, cuda, cuda:1, ...'
)
@click.option('--compile', is_flag=True, help='Compile the model of --torch with torch.compile.')
@click.option(
    '--cuda-graphs', is_flag=True, help='Run the model of --torch as CUDA graphs, whose kernels are launched together.'
)
@click.option(
    '--json',
    'json_file',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File (.json) to write the results to; - for standard output.',
)
def command(
    models,
    backends,
    threads,
    image,
    batches,
    rounds,
    size,
    score_thr,
    reduced_precision,
    trained,
    precisions,
    device,
    compile,
    cuda_graphs,
    json_file,
) -> None:
    """Measure the latency and throughput of exported MODELS (.onnx, .xml, .param, .engine).

    The models take turns, so that a noisy machine affects all of them. The latency is that of `predict` and of its
    parts. Use --torch to measure a checkpoint as well.
    """
    if not models and not trained:
        raise ValueError('MODELS must be at least one file, got none; or give --torch CONFIG CHECKPOINT')
    if len(threads) > 1 and trained:
        raise ValueError(f'--threads must be given only once with --torch, got {", ".join(map(str, threads))}')
    if json_file is not None:
        inputs = [*models, *([image] if image else []), *(trained or ())]
        check_json(json_file, input_files(inputs), FIGURES)
    # Import rtmdet_plugin first: its error names the missing package of PyTorch or OpenMMLab.
    from rtmdet_plugin.inference.benchmark import latency_rows, throughput_rows

    array = load_image(image)
    if threads:
        import torch

        torch.set_num_threads(threads[0])
    detectors = open_models(models, backends, threads, size, score_thr, reduced_precision)
    if trained:
        config, checkpoint = trained
        settings = dict(size=size, score_thr=score_thr)
        detectors |= open_checkpoint(config, checkpoint, precisions, device, compile, cuda_graphs, **settings)
    for line in fixed_batches(detectors, batches):
        click.echo(line, err=True)
    result: dict[str, Any] = dict(machine=machine(), latency=latency_rows(detectors, array, rounds))
    err = json_file == STDOUT
    print_rows('latency of one image', result['latency'], err)
    if batches:
        result['throughput'] = throughput_rows(detectors, array, batches, rounds)
        print_rows('throughput', result['throughput'], err)
    if json_file is not None:
        write_json(json_file, rounded(result))
