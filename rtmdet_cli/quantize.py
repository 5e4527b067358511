"""The command `rtmdet quantize`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from rtmdet_runtime.choices import FLOAT_PARTS, METHODS, PARTS, TARGETS
from rtmdet_runtime.messages import needed_by
from rtmdet_runtime.output import check_output, input_files

from .images import list_bad, list_images, read_images
from .options import threads_beside_others, threads_option
from .progress import show_progress


@click.command('quantize')
@click.argument('model', type=click.Path(path_type=Path))
@click.argument('images', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    required=True,
    metavar='FILE',
    help='File to write: .onnx, or .xml for OpenVINO.',
)
@click.option(
    '--samples',
    type=click.IntRange(1),
    default=200,
    show_default=True,
    metavar='N',
    help='Number of images to calibrate with, evenly spaced.',
)
@click.option(
    '--method',
    type=click.Choice([*METHODS, 'nncf']),
    default='mse',
    show_default=True,
    help="Method that finds a tensor's range; nncf, only for .xml, quantises with NNCF instead.",
)
@click.option(
    '--percentile',
    default=99.99,
    show_default=True,
    metavar='50..100',
    help='Share of the values that the range covers, for --method percentile.',
)
@click.option(
    '--keep-float',
    type=click.Choice(PARTS),
    multiple=True,
    default=FLOAT_PARTS,
    show_default=True,
    help='Part of the model to keep in float. May be repeated; replaces the default.',
)
@click.option(
    '--tolerance',
    default=0.001,
    show_default=True,
    metavar='0..1',
    help='Keep layers in float if quantising them shifts scores, of classes or of pixels of masks, by more. 1 keeps '
    'none, and measures nothing.',
)
@click.option(
    '--target',
    type=click.Choice(TARGETS),
    help='Runtime that the file is for. Default: openvino for .xml, tensorrt for the export format trt, otherwise '
    'onnxruntime.',
)
@threads_option
def command(model, images, out, samples, method, percentile, keep_float, tolerance, target, threads) -> None:
    """Quantise MODEL, an ONNX file of `rtmdet export`, to INT8, calibrated on the images in the folder IMAGES.

    The images should be similar to those that the model will see; no labels are needed. Images that can't be read are
    skipped and listed at the end, and the exit code is then 1. If fewer than half of the images can be read, nothing is
    written.
    """
    check_output(out, input_files([model]), ('.onnx', '.xml'))
    if not images.is_dir():
        raise FileNotFoundError(f'{images}: no such folder')
    from rtmdet_plugin.export.convert import read_info, to_openvino
    from rtmdet_plugin.quantization.nncf_int8 import quantize_openvino
    from rtmdet_plugin.quantization.quantize import evenly_spaced, quantize_onnx

    check_settings_agree(model, out, method, target)
    if target is None:
        target = 'openvino' if out.suffix == '.xml' else 'tensorrt' if read_info(model).form == 'trt' else 'onnxruntime'
    threads = threads or threads_beside_others(model)
    bad = []
    with show_progress() as track:
        listed = evenly_spaced(list_images([images]), samples)
        chosen = [path for path, _ in read_images(track(listed, description='Reading images'), bad)]
    if len(chosen) < max(1, len(listed) / 2):
        list_bad(bad, len(listed), 'at least half of the images must be readable')
    with show_progress() as track, tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = dict(keep_float=keep_float, tolerance=tolerance, threads=threads, track=track)
        if method == 'nncf':
            layers = quantize_openvino(model, out, chosen, **settings)
        else:
            settings |= dict(method=method, percentile=percentile, target=target)
            path = Path(folder) / 'int8.onnx' if out.suffix == '.xml' else out
            layers = quantize_onnx(model, path, chosen, **settings)
            if path != out:
                to_openvino(path, out)
    click.echo(
        f'{out}: INT8, calibrated on {len(chosen)} images ({method}) for {target}; {len(layers)} layers stay in float'
    )
    list_bad(bad, len(listed), f'{out} is written, calibrated without them')


def check_settings_agree(model: Path, out: Path, method: str, target: str | None) -> None:
    """Check that the settings are compatible, before anything is computed.

    Raises:
        ValueError: if they aren't.
        FileExistsError: see `check_bin`.
        ImportError: if OpenVINO is needed and not installed.
    """
    if method == 'nncf' and out.suffix != '.xml':
        raise ValueError(f'--out must end in .xml for --method nncf, got {out}')
    if out.suffix != '.xml':
        return
    from rtmdet_plugin.export.convert import check_bin, read_info

    if target not in (None, 'openvino'):
        raise ValueError(f'--target must be openvino for {out}, got {target}')
    if read_info(model).form == 'trt':
        raise ValueError(
            f'{model} must have the export format raw, decoded or nms for {out}, got trt, which needs TensorRT'
        )
    check_bin(out)
    with needed_by(str(out)):
        import openvino  # noqa: F401  if it is missing, the command ends before the calibration
