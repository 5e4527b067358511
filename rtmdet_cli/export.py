"""The command `rtmdet export`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from rtmdet_runtime import FORMS
from rtmdet_runtime.choices import DEPLOY_THRESHOLDS, DYNAMIC, OPSETS
from rtmdet_runtime.output import check_output, input_files

from .config import cfg_options, changed_config, config_argument
from .options import describe_thresholds

ENDINGS = ('.onnx', '.xml', '.param')


def threshold_option(name: str, metavar: str, kind: type, text: str) -> Callable:
    """Return an option that replaces one of `DEPLOY_THRESHOLDS`."""
    default = DEPLOY_THRESHOLDS[name.removeprefix('--').replace('-', '_')]
    return click.option(name, type=kind, metavar=metavar, help=f'{text} Default: {default}.')


def moved_option(name: str) -> Callable:
    """Return a hidden option that moved to `rtmdet mmdeploy`; its use ends the command with an error."""

    def refuse(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            raise ValueError(f'{name} is an option of `rtmdet mmdeploy` now: run that with the same arguments')

    return click.option(name, hidden=True, is_eager=True, expose_value=False, callback=refuse)


@click.command('export')
@config_argument
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    required=True,
    metavar='FILE',
    help='File to write: .onnx, .xml (OpenVINO) or .param (ncnn).',
)
@click.option(
    '--form',
    type=click.Choice(FORMS),
    default='decoded',
    show_default=True,
    help='Export format: raw (maps of the head), decoded (all boxes and scores), nms (boxes after NMS) or trt (boxes '
    "after TensorRT's NMS; not for models with masks).",
)
@click.option(
    '--size', type=int, nargs=2, metavar='H W', help="Input size, multiples of 32. Default: the test pipeline's."
)
@click.option(
    '--dynamic',
    type=click.Choice(DYNAMIC),
    default='none',
    show_default=True,
    help='Dynamic axes: none, the batch, or all (batch, height and width).',
)
@click.option(
    '--opset',
    type=click.IntRange(OPSETS[0], OPSETS[-1]),
    default=18,
    show_default=True,
    metavar='N',
    help="ONNX opset. PyTorch's TorchScript exporter writes up to 17, the exporter with dynamo=True 18 and later.",
)
@click.option(
    '--score-thr',
    type=float,
    metavar='0..1',
    help='Score threshold. Default: the one that the report of the training recommends for CHECKPOINT, or else '
    f'{DEPLOY_THRESHOLDS["score_thr"]}.',
)
@threshold_option('--iou-thr', '0..1', float, 'IoU threshold of NMS.')
@threshold_option('--max-per-img', 'N', int, 'Maximum number of boxes per image.')
@click.option(
    '--for-map',
    is_flag=True,
    help="Use the thresholds of CONFIG's model.test_cfg as defaults: right to measure mAP, slow in use.",
)
@moved_option('--deploy-cfg')
@moved_option('--image')
@moved_option('--device')
@cfg_options
def command(
    config, checkpoint, out, form, size, dynamic, opset, score_thr, iou_thr, max_per_img, for_map, changes
) -> None:
    """Export the model of CONFIG with the weights of CHECKPOINT, for use without PyTorch.

    CONFIG is a file or the name of a shipped config, such as rtmdet_plugin::rtmdet_s.py. CHECKPOINT is a .pth or
    .safetensors file. To export through mmdeploy, use `rtmdet mmdeploy`.

    The fastest on a CPU is INT8 on OpenVINO (28 ms for tiny and 39 ms for s, instead of 61 and 95 ms in float32 on ONNX
    Runtime): export to .onnx, then run `rtmdet quantize MODEL.onnx IMAGES_FOLDER -o MODEL_INT8.xml`.
    """
    check_output(out, input_files([config, checkpoint]), ENDINGS)
    from rtmdet_plugin.checkpoints.load_model import load_model
    from rtmdet_plugin.checkpoints.recommended import NAME, recommended_score_thr
    from rtmdet_plugin.export.convert import to_ncnn, to_openvino
    from rtmdet_plugin.export.onnx_export import export_onnx

    model = load_model(changed_config(config, changes), checkpoint)
    if score_thr is None and not for_map and (score_thr := recommended_score_thr(checkpoint)) is not None:
        click.echo(f'Score threshold {score_thr:g}: recommended by {NAME} next to {checkpoint}')
    convert = {'.onnx': None, '.xml': to_openvino, '.param': to_ncnn}[out.suffix]
    with tempfile.TemporaryDirectory() as folder:
        path = out if convert is None else Path(folder) / 'model.onnx'
        info = export_onnx(
            model,
            path,
            form=form,
            size=size,
            dynamic=dynamic,
            opset=opset,
            for_map=for_map,
            score_thr=score_thr,
            iou_thr=iou_thr,
            max_per_img=max_per_img,
        )
        if convert is not None:
            convert(path, out)
    height, width = info.input_size
    click.echo(
        f'{out}: export format {form}, {len(info.classes)} classes, {height}x{width} pixels, dynamic axes: {dynamic}, '
        f'thresholds: {describe_thresholds(info)}'
    )
