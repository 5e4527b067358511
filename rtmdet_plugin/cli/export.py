"""The verb `rtmdet export`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from click.core import ParameterSource

from rtmdet_runtime import FORMS

from ..deploy.checkpoint import load_model
from ..deploy.convert import to_ncnn, to_openvino
from ..deploy.mmdeploy.deploy import deploy, export_graph
from ..deploy.onnx_export import DYNAMIC, OPSETS, export_onnx
from .config import cfg_options, changed_config

CONVERTERS = {'.onnx': None, '.xml': to_openvino, '.param': to_ncnn}
OURS = ['form', 'size', 'dynamic', 'opset', 'score_thr', 'iou_thr', 'max_per_img']
"""Options that a deploy config of mmdeploy has its own settings for."""


@click.command('export')
@click.argument('config', type=click.Path(path_type=Path))
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    required=True,
    help='.onnx, .xml (OpenVINO) or .param (ncnn); with --deploy-cfg a folder, or .onnx for the graph alone.',
)
@click.option('--form', type=click.Choice(FORMS), default='decoded', show_default=True, help='What the outputs are.')
@click.option('--size', type=int, nargs=2, metavar='H W', help="Default: the test pipeline's.")
@click.option('--dynamic', type=click.Choice(DYNAMIC), default='none', show_default=True, help='Axes left open.')
@click.option('--opset', type=click.IntRange(OPSETS[0], OPSETS[-1]), default=18, show_default=True)
@click.option('--score-thr', type=float, help="This and the next two: default, the config's test_cfg.")
@click.option('--iou-thr', type=float, help='Of NMS.')
@click.option('--max-per-img', type=int, help='Boxes of an image, at most.')
@click.option('--deploy-cfg', type=click.Path(path_type=Path), help='Export through mmdeploy, with this config of it.')
@click.option('--image', type=click.Path(path_type=Path), help='With --deploy-cfg: a picture to compare backends on.')
@click.option('--device', default='cpu', show_default=True, help='With --deploy-cfg; TensorRT takes cuda:0.')
@cfg_options
@click.pass_context
def command(
    context,
    config,
    checkpoint,
    out,
    form,
    size,
    dynamic,
    opset,
    score_thr,
    iou_thr,
    max_per_img,
    deploy_cfg,
    image,
    device,
    changes,
) -> None:
    """Write the model of CONFIG with the weights of CHECKPOINT, for use without PyTorch."""
    if deploy_cfg is not None:
        given = [name for name in OURS if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if given or image is None:
            raise ValueError(
                f'--deploy-cfg {deploy_cfg}; accepted with it: --image PICTURE, and none of {given or OURS}, which the '
                'deploy config says itself'
            )
        arguments = changed_config(config, changes), checkpoint, deploy_cfg, image, out
        if out.suffix == '.onnx':
            export_graph(*arguments)
            click.echo(f'{out}: the graph alone, compared with nothing')
        else:
            click.echo(deploy(*arguments, device).summary())
        return
    if out.suffix not in CONVERTERS:
        raise ValueError(f'{out}: accepted: a name that ends in {", ".join(CONVERTERS)}')
    model = load_model(changed_config(config, changes), checkpoint)
    convert = CONVERTERS[out.suffix]
    with tempfile.TemporaryDirectory() as folder:
        path = out if convert is None else Path(folder) / 'model.onnx'
        info = export_onnx(
            model,
            path,
            form=form,
            size=size,
            dynamic=dynamic,
            opset=opset,
            score_thr=score_thr,
            iou_thr=iou_thr,
            max_per_img=max_per_img,
        )
        if convert is not None:
            convert(path, out)
    height, width = info.input_size
    click.echo(f'{out}: form {form}, {len(info.classes)} classes, {height}x{width} pixels, dynamic axes: {dynamic}')
