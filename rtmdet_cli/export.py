"""The command `rtmdet export`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from click.core import ParameterSource

from rtmdet_runtime import FORMS
from rtmdet_runtime.choices import DYNAMIC, OPSETS
from rtmdet_runtime.output import check_output, check_writable, input_files

from .config import cfg_options, changed_config, config_argument

ENDINGS = ('.onnx', '.xml', '.param')
OURS = ['form', 'size', 'dynamic', 'opset', 'score_thr', 'iou_thr', 'max_per_img']
"""Options that a deploy config of mmdeploy has its own settings for."""


@click.command('export')
@config_argument
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    required=True,
    metavar='FILE',
    help='.onnx, .xml (OpenVINO) or .param (ncnn); with --deploy-cfg a folder, or .onnx for the graph alone.',
)
@click.option(
    '--form',
    type=click.Choice(FORMS),
    default='decoded',
    show_default=True,
    help="Outputs: raw, the maps; decoded, boxes and scores; nms, boxes after NMS; trt, for TensorRT's NMS.",
)
@click.option(
    '--size', type=int, nargs=2, metavar='H W', help="Of the input, multiples of 32. Default: the test pipeline's."
)
@click.option(
    '--dynamic',
    type=click.Choice(DYNAMIC),
    default='none',
    show_default=True,
    help='Axes left open: none, the batch, or the batch with height and width.',
)
@click.option(
    '--opset',
    type=click.IntRange(OPSETS[0], OPSETS[-1]),
    default=18,
    show_default=True,
    metavar='N',
    help="Of ONNX; up to 17 PyTorch's TorchScript exporter writes, from 18 on the one with dynamo=True.",
)
@click.option('--score-thr', type=float, metavar='0..1', help="Of boxes. Default: the config's model.test_cfg.")
@click.option('--iou-thr', type=float, metavar='0..1', help="Of NMS. Default: the config's.")
@click.option('--max-per-img', type=int, metavar='N', help="Boxes of an image, at most. Default: the config's.")
@click.option(
    '--deploy-cfg',
    metavar='CONFIG',
    help='Export through mmdeploy by this config: a file, or the name of a shipped one, such as '
    'rtmdet_plugin::deploy/onnxruntime_static.py.',
)
@click.option(
    '--image',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='With --deploy-cfg: an image with objects, on which the result is compared with PyTorch.',
)
@click.option(
    '--device',
    metavar='NAME',
    default='cpu',
    show_default=True,
    help='With --deploy-cfg: where the backend runs; TensorRT takes cuda:0.',
)
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
    """Write the model of CONFIG with the weights of CHECKPOINT, for use without PyTorch.

    CONFIG is a file, or the name of a shipped one, such as rtmdet_plugin::rtmdet_s.py. CHECKPOINT is a .pth or a
    .safetensors file.
    """
    inputs = input_files([config, checkpoint])
    if deploy_cfg is not None:
        given = [name for name in OURS if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        if given or image is None:
            raise ValueError(
                f'--deploy-cfg {deploy_cfg}; accepted with it: --image FILE, and none of {given or OURS}, which the '
                'deploy config says itself'
            )
        from rtmdet_plugin.inference.device import check_device
        from rtmdet_plugin.mmdeploy_support.deploy import deploy, export_graph

        check_device(device)
        arguments = changed_config(config, changes), checkpoint, deploy_cfg, image, out
        if out.suffix == '.onnx':
            check_output(out, inputs, ENDINGS)
            export_graph(*arguments)
            click.echo(f'{out}: the graph alone, compared with nothing')
        else:
            check_writable(out / 'deploy.json')
            click.echo(deploy(*arguments, device).summary())
        return
    if image is not None:
        raise ValueError(f'--image {image}; accepted with --deploy-cfg alone')
    check_output(out, inputs, ENDINGS)
    from rtmdet_plugin.checkpoints.load_model import load_model
    from rtmdet_plugin.export.convert import to_ncnn, to_openvino
    from rtmdet_plugin.export.onnx_export import export_onnx

    model = load_model(changed_config(config, changes), checkpoint)
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
            score_thr=score_thr,
            iou_thr=iou_thr,
            max_per_img=max_per_img,
        )
        if convert is not None:
            convert(path, out)
    height, width = info.input_size
    click.echo(f'{out}: form {form}, {len(info.classes)} classes, {height}x{width} pixels, dynamic axes: {dynamic}')
