"""The verb `rtmdet test`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from rtmdet_runtime import RTMDetector
from rtmdet_runtime.backends import BACKENDS

from ..deploy.evaluation import evaluate, use_thresholds
from .config import cfg_options, changed_config


@click.command('test')
@click.argument('config', type=click.Path(path_type=Path))
@click.argument('model', type=click.Path(path_type=Path))
@click.option('--backend', type=click.Choice(list(BACKENDS)), help="Default: by the file's ending.")
@click.option('--size', type=int, nargs=2, metavar='H W', help='Scale pictures to; for models with a dynamic size.')
@click.option('--batch-size', default=1, show_default=True, help='Pictures that the network gets at once.')
@click.option('--threads', type=click.IntRange(1), help="Default: the backend's.")
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='File for the metrics.')
@cfg_options
def command(config, model, backend, size, batch_size, threads, json_file, changes) -> None:
    """Evaluate MODEL (.onnx, .xml, .param, .engine or .pth) on the test set of CONFIG, by its evaluator.

    The thresholds are those of the config's model.test_cfg, as for a checkpoint; in the forms nms and trt they are part
    of the graph and stay.
    """
    config = changed_config(config, changes)
    if model.suffix == '.pth':
        metrics = test_checkpoint(config, model)
    else:
        detector = RTMDetector(model, backend=backend, size=size, threads=threads)
        use_thresholds(detector, config.model.test_cfg)
        metrics = evaluate(config, detector, batch_size)
    table = Table('metric', 'value', title=str(model))
    for name, value in metrics.items():
        table.add_row(name, f'{value:.3f}')
    Console().print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(metrics, indent=1) + '\n')


def test_checkpoint(config, checkpoint: Path) -> dict[str, float]:
    """What mmengine's Runner measures.

    Raises:
        FileNotFoundError: where there is no such checkpoint.
        ValueError: where it doesn't fit, see `RTMLoadReportHook`.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f'{checkpoint}: no such checkpoint')
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir = folder  # mmengine writes its log there
        config.load_from = str(checkpoint)
        return Runner.from_cfg(config).test()
