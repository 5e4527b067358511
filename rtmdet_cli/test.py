"""The command `rtmdet test`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from rtmdet_runtime.atomic_files import check_writable
from rtmdet_runtime.backends import BACKENDS
from rtmdet_runtime.choices import CHECKPOINTS
from rtmdet_runtime.output import STDOUT, check_json, input_files, write_json

from .config import cfg_options, changed_config, config_argument
from .options import (
    ap_precision_option,
    backend_option,
    describe_thresholds,
    size_option,
    threads_beside_others,
    threads_option,
)

EXPORTED = sorted({ending for _, _, endings in BACKENDS.values() for ending in endings})
METRICS = r'\{\s*"\w+/\w+"\s*:\s*[-\d.NI]'
"""Pattern of the beginning of the JSON file: a name such as coco/bbox_mAP, and a number. Label maps don't match."""


@click.command('test')
@config_argument
@click.argument('model', type=click.Path(path_type=Path))
@backend_option
@size_option
@click.option(
    '--batch-size',
    type=click.IntRange(1),
    metavar='N',
    help="Number of images that the network gets at once. Default: 1; for a checkpoint, the config's.",
)
@threads_option
@ap_precision_option
@click.option(
    '--json',
    'json_file',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File (.json) to write the metrics to; - for standard output.',
)
@cfg_options
def command(config, model, backend, size, batch_size, threads, precision, json_file, changes) -> None:
    """Evaluate MODEL on the test set of CONFIG with the config's evaluator.

    CONFIG is a file or the name of a shipped config, such as rtmdet_plugin::rtmdet_s.py. MODEL is an exported model
    (.onnx, .xml, .param, .engine), or a checkpoint (.pth, .safetensors), which mmengine's Runner tests. The options
    --backend, --size, --threads and --precision are only for exported models.

    The thresholds are those of the config's model.test_cfg. In the export formats nms and trt, thresholds are part of
    the graph and can't be changed: to measure mAP, export these with --for-map. The classes of the model must be those
    of the test set, in the same order.

    The log of a checkpoint's test is written to the folder `test` in the config's work_dir (default: work_dirs/NAME).
    """
    if model.suffix not in (*CHECKPOINTS, *EXPORTED):
        raise ValueError(f'MODEL must end in one of {", ".join((*EXPORTED, *CHECKPOINTS))}, got {model}')
    runtime = dict(backend=backend, size=size, threads=threads)
    given = [f'--{name}' for name, value in runtime.items() if value is not None]
    given += ['--precision'] if precision != 'float32' else []
    if model.suffix in CHECKPOINTS and given:
        raise ValueError(f'MODEL must be an exported model for {", ".join(given)}, got the checkpoint {model}')
    inputs = input_files([config, model])
    if json_file is not None:
        check_json(json_file, inputs, METRICS)
    # Import rtmdet_plugin first: its error names the missing package of PyTorch or OpenMMLab.
    from rtmdet_plugin.export.metadata import thresholds
    from rtmdet_plugin.inference.evaluation import evaluate, evaluate_checkpoint, use_thresholds
    from rtmdet_plugin.inference.quiet import quiet
    from rtmdet_runtime import RTMDetector

    with quiet():
        config = changed_config(config, changes)
    if model.suffix in CHECKPOINTS:
        # A separate folder: mmengine writes the config to it, and would replace a training's in the work directory.
        work_dir = Path(config.get('work_dir') or Path('work_dirs') / Path(config.filename).stem) / 'test'
        try:
            check_writable(work_dir / 'log')
        except OSError as error:
            raise OSError(f'{error}; set another folder: --cfg-options work_dir=FOLDER') from None
        with quiet():
            metrics, _ = evaluate_checkpoint(config, model, work_dir, batch_size)
    else:
        test_cfg = config.model.get('test_cfg')
        runtime['threads'] = threads or threads_beside_others(model)
        detector = use_thresholds(RTMDetector(model, precision=precision, **runtime), test_cfg)
        wanted = describe_thresholds(replace(detector.info, **thresholds(test_cfg)))
        if (used := describe_thresholds(detector.info)) != wanted:  # NMS is part of the graph
            click.echo(
                f'AP is measured with the thresholds in the graph ({used}), not with those of the config ({wanted}); '
                'for these, export the model with --for-map',
                err=json_file == STDOUT,
            )
        with quiet():
            metrics = evaluate(config, detector, batch_size or 1)
    from rich.console import Console
    from rich.table import Table

    click.echo(click.format_filename(model), err=json_file == STDOUT)
    table = Table('metric', 'value')
    for name, value in metrics.items():
        table.add_row(name, f'{value:.3f}')
    Console(stderr=json_file == STDOUT).print(table)
    if json_file is not None:
        write_json(json_file, metrics)
