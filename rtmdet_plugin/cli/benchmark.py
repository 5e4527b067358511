"""The verb `rtmdet benchmark`."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from rtmdet_runtime import RTMDetector
from rtmdet_runtime.backends import BACKENDS
from rtmdet_runtime.image import read_image

from ..deploy.benchmark import latency_rows, throughput_rows


def print_rows(title: str, rows: list[dict]) -> None:
    """A table of rows with the same keys."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f'{value:.1f}' if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)


@click.command('benchmark')
@click.argument('models', type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option('--backend', 'backends', type=click.Choice(list(BACKENDS)), multiple=True, help='May repeat: each reads.')
@click.option('--threads', type=click.IntRange(1), multiple=True, help="May repeat. Default: the backend's.")
@click.option('--image', type=click.Path(path_type=Path), help='A picture; default: noise, in which nothing is found.')
@click.option('--batch', 'batches', type=click.IntRange(1), multiple=True, help='For throughput; may repeat.')
@click.option('--rounds', type=click.IntRange(1), default=30, show_default=True, help='Measured calls of each.')
@click.option('--size', type=int, nargs=2, metavar='H W', help='Scale pictures to; for models with a dynamic size.')
@click.option('--score-thr', type=float, help='In place of that in the file.')
@click.option('--reduced-precision', is_flag=True, help='Also each of OpenVINO and ncnn in its own precision.')
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='File for the figures.')
def command(models, backends, threads, image, batches, rounds, size, score_thr, reduced_precision, json_file) -> None:
    """Measure exported MODELS (.onnx, .xml, .param, .engine) in turns: latency, its parts, and throughput."""
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8) if image is None else read_image(image)
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
    result = dict(machine=platform.processor() or platform.machine(), latency=latency_rows(detectors, picture, rounds))
    print_rows('latency of one picture', result['latency'])
    if batches:
        result['throughput'] = throughput_rows(detectors, picture, batches, rounds)
        print_rows('throughput', result['throughput'])
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(result, indent=1) + '\n')
