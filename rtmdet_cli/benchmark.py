"""The command `rtmdet benchmark`."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rtmdet_runtime.backends import BACKENDS, readers_of
from rtmdet_runtime.choices import PRECISIONS
from rtmdet_runtime.cpu_cores import available_cores
from rtmdet_runtime.output import STDOUT, check_json, input_files, write_json

from .candidates import Candidate, open_checkpoint, open_models
from .options import THREADS, size_option, threads_beside_others

if TYPE_CHECKING:
    from rtmdet_runtime import RTMDetector
    from rtmdet_runtime.image import Image

FIGURES = r'\{\s*"machine"\s*:'
"""Pattern of the beginning of the JSON file."""


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


def rounded(value: Any) -> Any:
    """Return a result, in which lists and dicts may be nested, with all floats rounded to three decimals."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 3) if isinstance(value, float) else value


def machine() -> dict[str, str]:
    """Return the CPU, its number of cores, and the versions of the backends."""
    versions = {name: version(name) for name in ('onnxruntime', 'openvino', 'ncnn', 'torch') if find_spec(name)}
    return dict(cpu=platform.processor() or platform.machine(), cores=str(os.cpu_count()), **versions)


def open_all(
    models: Sequence[Path],
    backends: Sequence[str],
    threads: Sequence[int],
    precisions: Sequence[str],
    trained: tuple[str, str] | None,
    settings: dict[str, Any],
    switches: dict[str, Any],
) -> dict[Candidate, RTMDetector]:
    """Open all candidates of a recommendation; for the arguments see `open_models` and `open_checkpoint`."""
    from rtmdet_plugin.inference.predictor import cpu_has_bfloat16
    from rtmdet_plugin.inference.recommendation import CONFIG, thread_counts, write_random_model

    chosen = list(backends) or [name for name in BACKENDS if find_spec(name)]
    threads = threads or thread_counts(available_cores())
    of_torch = precisions or ['float32', *(['bfloat16'] if switches['device'] == 'cpu' and cpu_has_bfloat16() else [])]
    with tempfile.TemporaryDirectory() as folder:
        if random := not models and not trained:
            written, checkpoint = write_random_model(Path(folder))
            models = [file for file in written if {*readers_of(file)} & {*chosen}]
            trained = None if backends else (CONFIG, str(checkpoint))
        if not backends:  # the error for a model that no installed backend reads then names the missing package
            chosen += [names[0] for names in map(readers_of, models) if names and not {*names} & {*chosen}]
        found = open_models(models, chosen, threads, precisions or ('auto', 'float32'), **settings)
        if trained:
            found |= open_checkpoint(*trained, threads, of_torch, **switches, **settings)
    return {replace(key, model=Path(key.model).name): value for key, value in found.items()} if random else found


def recommendation(detectors: Mapping[Candidate, RTMDetector], image: Image, rounds: int) -> dict[str, Any]:
    """Measure `predict` of one image; return the latency of each candidate, and the fastest with its usage."""
    from rtmdet_plugin.inference.recommendation import SECONDS, fastest, latencies_within

    steps = {candidate: partial(detector.predict, image) for candidate, detector in detectors.items()}
    rows = {}
    for candidate, latency in latencies_within(SECONDS, steps, rounds).items():
        names = dict(model=candidate.model, backend=candidate.backend, precision=candidate.precision)
        rows[candidate] = dict(names, threads=candidate.threads, median_ms=latency.median, p95_ms=latency.p95)
    best = fastest(list(rows.values()))
    usage = next(candidate.usage() for candidate, row in rows.items() if row is best)
    return dict(latency=list(rows.values()), fastest=dict(best, **usage))


def advice(result: dict[str, Any]) -> list[str]:
    """Return the recommendation as lines for the user."""
    best = result['fastest']
    lines = [
        'Fastest here: {model} on {backend}, {precision}, {threads} threads: {median_ms:.1f} ms'.format(**best),
        *(f'    {best[name]}' for name in ('command', 'python') if name in best),
    ]
    if missing := [name for name in ('onnxruntime', 'openvino', 'ncnn') if not find_spec(name)]:
        lines.append(f'Not measured, because they are not installed: {", ".join(missing)}')
    if not any('INT8' in row['precision'] for row in result['latency']):
        lines.append(
            'INT8 is not measured, which is the fastest on many CPUs: `rtmdet quantize MODEL.onnx IMAGES -o MODEL.xml` '
            'writes it for OpenVINO; give both files to this command'
        )
    return lines


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
    help="Number of CPU threads. May be repeated. Default: the backend's, or the free cores if other programs use "
    'some.',
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
@click.option('--torch', 'trained', nargs=2, metavar='CONFIG CHECKPOINT', help='Also measure a checkpoint in PyTorch.')
@click.option(
    '--precision',
    'precisions',
    type=click.Choice(PRECISIONS),
    multiple=True,
    help='Precision to compute in, on the backends that have it. May be repeated. Default: auto, which is bfloat16 on '
    'OpenVINO if the CPU has it, otherwise float32.',
)
@click.option(
    '--recommend',
    is_flag=True,
    help='Find the fastest backend, precision and number of threads on this machine, in one to two minutes. Without '
    'MODELS, RTMDet-tiny with random weights is measured.',
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
    trained,
    precisions,
    recommend,
    device,
    compile,
    cuda_graphs,
    json_file,
) -> None:
    """Measure the latency and throughput of exported MODELS (.onnx, .xml, .param, .engine).

    The models take turns, so that a noisy machine affects all of them. The latency is that of `predict` and of its
    parts. Use --torch to measure a checkpoint as well.

    With --recommend, each model is measured on all installed backends that read it, in their default precision and in
    float32, with one thread, half of the CPU cores and all of them; --backend, --precision and --threads limit this.
    """
    if not models and not trained and not recommend:
        raise ValueError('MODELS must be at least one file, got none; or give --torch CONFIG CHECKPOINT or --recommend')
    if recommend and batches:
        raise ValueError('--batch must not be given with --recommend, which measures single images')
    if json_file is not None:
        inputs = [*models, *([image] if image else []), *(trained or ())]
        check_json(json_file, input_files(inputs), FIGURES)
    # Import rtmdet_plugin first: its error names the missing package of PyTorch or OpenMMLab.
    from rtmdet_plugin.inference.benchmark import latency_rows, throughput_rows
    from rtmdet_plugin.inference.quiet import quiet

    array = load_image(image)
    settings = dict(size=size, score_thr=score_thr)
    switches = dict(device=device, compile=compile, cuda_graphs=cuda_graphs)
    result: dict[str, Any] = dict(machine=machine())
    err = json_file == STDOUT
    if recommend:
        with quiet():
            opened = open_all(models, backends, threads, precisions, trained, settings, switches)
        click.echo(f'Measuring {len(opened)} candidates in turns', err=True)
        result |= recommendation(opened, array, rounds)
        print_rows('latency of one image', result['latency'], err)
        for line in advice(result):
            click.echo(line, err=err)
    else:
        precisions = precisions or ('auto',)
        first = models[0] if models else trained[1] if trained else ''
        threads = threads or tuple(filter(None, [threads_beside_others(first, device)]))
        candidates = open_models(models, backends, threads, precisions, **settings)
        if trained:
            config, checkpoint = trained
            with quiet():
                candidates |= open_checkpoint(config, checkpoint, threads, precisions, **switches, **settings)
        detectors = {str(candidate): detector for candidate, detector in candidates.items()}
        for line in fixed_batches(detectors, batches):
            click.echo(line, err=True)
        result['latency'] = latency_rows(detectors, array, rounds)
        print_rows('latency of one image', result['latency'], err)
        if batches:
            result['throughput'] = throughput_rows(detectors, array, batches, rounds)
            print_rows('throughput', result['throughput'], err)
    if json_file is not None:
        write_json(json_file, rounded(result))
