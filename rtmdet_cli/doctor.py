"""The command `rtmdet doctor`."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import click

from rtmdet_runtime.choices import MODELS
from rtmdet_runtime.output import STDOUT, check_json, check_output, input_files, write_json, write_result

from .config import cfg_options
from .data import read_argument
from .progress import show_progress

PACKAGES = (
    *('torch', 'mmengine', 'onedl-mmengine', 'mmcv-lite', 'mmcv', 'onedl-mmcv', 'mmdet', 'onedl-mmdetection'),
    *('numpy', 'opencv-python', 'opencv-python-headless', 'onnxruntime', 'openvino', 'ncnn'),
)
"""Distributions whose versions are listed, if they are installed."""
RESULT = r'\{\s*"rtmdet doctor"\s*:'
"""Pattern of the beginning of the JSON file."""


@click.command('doctor')
@click.argument('data', required=False)
@click.option('--deep', is_flag=True, help='Decode each image, and find images that look alike. Takes minutes.')
@click.option('--speed', is_flag=True, help='Measure the images/s of the data loader and of a training step.')
@click.option(
    '--model',
    type=click.Choice(tuple(MODELS)),
    default='tiny',
    show_default=True,
    help='Model that will be trained on DATA; with ins-, masks are examined too.',
)
@click.option(
    '--show', type=click.IntRange(0), default=5, show_default=True, metavar='N', help='Files to show for each finding.'
)
@click.option(
    '--json',
    'json_file',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File (.json) to write the findings to, with all files; - for standard output.',
)
@click.option(
    '--page',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File (.html) to write a page to, with the images that the findings are about.',
)
@click.option('--strict', is_flag=True, help='Exit with code 1 if there is a warning or an error.')
@cfg_options
@click.pass_context
def command(ctx, data, deep, speed, model, show, json_file, page, strict, changes) -> None:
    """Look for problems of DATA and of this machine before a training; without DATA, only of the machine.

    DATA is a folder, a data.yaml, an annotation file or a config, as for rtmdet train. It is read only. Found are
    broken, missing and duplicate images, images in two splits, boxes that are doubled, tiny, huge or outside their
    image, and problems of classes.

    Each finding is an error (rtmdet train refuses the data, or AP would be wrong), a warning (probably a mistake) or a
    note.
    """
    if data is None and (deep or speed or page or changes):
        raise click.UsageError('--deep, --speed, --page and --cfg-options need DATA, got none')
    inputs = input_files([data] if data else [])
    if json_file is not None:
        check_json(json_file, inputs, RESULT)
    try:
        # Import rtmdet_plugin first: its error names the missing package of PyTorch or OpenMMLab.
        from rtmdet_plugin.version import __version__
    except ImportError:
        for name, version in versions().items():
            click.echo(f'{name} {version}', err=True)
        raise
    from rtmdet_plugin.doctor import text
    from rtmdet_plugin.doctor.examine import examine
    from rtmdet_plugin.doctor.finding import in_order
    from rtmdet_plugin.doctor.machine import check_machine, machine_facts

    if page is not None:
        from rtmdet_plugin.doctor.page import BEGINNING, page_of_findings

        check_output(page, inputs, ('.html',), BEGINNING)
    here = Path.cwd()
    console = text.terminal(json_file == STDOUT)
    machine = {**machine_facts(here), 'packages': ', '.join(map(' '.join, versions().items()))}
    text.print_facts(console, 'Machine', machine)
    findings, facts, splits = list(check_machine(here)), {}, []
    if data is not None:
        source = read_argument(data, changes)
        with show_progress() as track:
            found = examine(source, model, deep, speed, track)
        facts, splits = found.facts, found.objects
        findings += found.findings
        text.print_facts(console, 'Data', facts)
    findings = in_order(findings)
    text.print_findings(console, findings, show)
    if json_file is not None:
        listed = [finding.to_dict() for finding in findings]
        write_json(json_file, {'rtmdet doctor': __version__, 'machine': machine, 'data': facts, 'findings': listed})
    if page is not None:
        write_result(page, page_of_findings(facts, findings, splits))
    if strict and any(finding.severity != 'note' for finding in findings):
        ctx.exit(1)


def versions() -> dict[str, str]:
    """Return the versions of installed packages, without importing them."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
