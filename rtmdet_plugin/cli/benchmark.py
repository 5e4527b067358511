"""The verb `rtmdet benchmark`."""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from rtmdet_runtime import RTMDetector
from rtmdet_runtime.backends import BACKENDS
from rtmdet_runtime.image import Image, read_image

from ..deploy.benchmark import latency_rows, throughput_rows
from ..deploy.checkpoint import read_config
from ..deploy.predictor import PRECISIONS, RTMDetPredictor
from ..deploy.reference import reference_steps


def print_rows(title: str, rows: list[dict]) -> None:
    """A table of rows with the same keys."""
    table = Table(*rows[0], title=title)
    for row in rows:
        cells = (
            '-' if value is None else f'{value:.1f}' if isinstance(value, float) else value for value in row.values()
        )
        table.add_row(*map(str, cells))
    Console().print(table)


def open_models(models, backends, threads, size, score_thr, reduced_precision) -> dict[str, RTMDetector]:
    """Exported models by name: each on every backend that reads it, with each number of threads."""
    detectors = {}
    for model in models:
        readers = [name for name in backends if model.suffix in BACKENDS[name][2]] or [None]
        for backend in readers:
            for count in threads or (None,):
                for reduced in (False, True) if reduced_precision else (False,):
                    detector = RTMDetector(
                        model,
                        backend=backend,
                        size=size,
                        score_thr=score_thr,
                        threads=count,
                        reduced_precision=reduced,
                    )
                    name = type(detector.backend).__name__.removesuffix('Backend')
                    if reduced and name in ('ONNXRuntime', 'TensorRT'):
                        continue  # they have no other precision than the file's
                    settings = [name, *([f'{count} threads'] if count else []), *(['reduced'] if reduced else [])]
                    detectors[f'{model}, {", ".join(settings)}'] = detector
    return detectors


def open_checkpoint(config, checkpoint, precisions, device, compile, cuda_graphs, **settings) -> dict[str, RTMDetector]:
    """A checkpoint in PyTorch by name, in each precision."""
    detectors = {}
    for precision in precisions:
        switches = [*(['compiled'] if compile else []), *(['CUDA graphs'] if cuda_graphs else [])]
        detectors[f'{checkpoint}, {", ".join(["PyTorch", precision, device, *switches])}'] = RTMDetPredictor(
            config,
            checkpoint,
            precision=precision,
            compile=compile,
            cuda_graphs=cuda_graphs,
            device=device,
            **settings,
        )
    return detectors


def some_picture(image: Path | None) -> Image:
    """A picture from its file, or noise. BGR, uint8. (H, W, 3)"""
    return np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8) if image is None else read_image(image)


@click.command('benchmark')
@click.argument('models', type=click.Path(path_type=Path), nargs=-1)
@click.option('--backend', 'backends', type=click.Choice(list(BACKENDS)), multiple=True, help='May repeat: each reads.')
@click.option('--threads', type=click.IntRange(1), multiple=True, help="May repeat. Default: the backend's.")
@click.option('--image', type=click.Path(path_type=Path), help='A picture; default: noise, in which nothing is found.')
@click.option('--batch', 'batches', type=click.IntRange(1), multiple=True, help='For throughput; may repeat.')
@click.option('--rounds', type=click.IntRange(1), default=30, show_default=True, help='Measured calls of each.')
@click.option('--size', type=int, nargs=2, metavar='H W', help='Scale pictures to; for models with a dynamic size.')
@click.option('--score-thr', type=float, help='In place of that in the file, or the config.')
@click.option('--reduced-precision', is_flag=True, help='Also each of OpenVINO and ncnn in its own precision.')
@click.option(
    '--torch', 'trained', type=click.Path(path_type=Path), nargs=2, metavar='CONFIG CHECKPOINT', help='Also in PyTorch.'
)
@click.option(
    '--precision', 'precisions', type=click.Choice(PRECISIONS), multiple=True, default=['float32'], show_default=True,
    help='With --torch; may repeat.',
)  # fmt: skip
@click.option('--device', default='cpu', show_default=True, help='With --torch.')
@click.option('--compile', is_flag=True, help='With --torch: by torch.compile.')
@click.option('--cuda-graphs', is_flag=True, help='With --torch.')
@click.option(
    '--mmdet',
    type=click.Path(path_type=Path),
    nargs=2,
    metavar='CONFIG CHECKPOINT',
    help="Beside them mmdet's own model, in PyTorch and through mmdeploy's stock export.",
)
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='File for the figures.')
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
    mmdet,
    json_file,
) -> None:
    """Measure exported MODELS (.onnx, .xml, .param, .engine) in turns: latency of `predict` and its parts, and
    throughput. Checkpoints take part with --torch, and mmdet's own model with --mmdet.
    """
    if not models and not trained:
        raise ValueError('nothing to measure; accepted: MODELS, or --torch CONFIG CHECKPOINT')
    picture, others = some_picture(image), {}
    if threads:
        torch.set_num_threads(threads[0])
    with tempfile.TemporaryDirectory() as folder:
        if mmdet:
            config, checkpoint = mmdet
            others = reference_steps(
                read_config(config), checkpoint, picture, Path(folder), threads[0] if threads else None
            )
        detectors = open_models(models, backends, threads, size, score_thr, reduced_precision)
        if trained:
            detectors |= open_checkpoint(
                *trained, precisions, device, compile, cuda_graphs, size=size, score_thr=score_thr
            )
        result = dict(
            machine=platform.processor() or platform.machine(),
            latency=latency_rows(detectors, picture, rounds, others),
        )
    print_rows('latency of one picture', result['latency'])
    if batches:
        result['throughput'] = throughput_rows(detectors, picture, batches, rounds)
        print_rows('throughput', result['throughput'])
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(result, indent=1) + '\n')
