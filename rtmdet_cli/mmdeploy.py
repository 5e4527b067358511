"""The command `rtmdet mmdeploy`."""

from __future__ import annotations

from pathlib import Path

import click

from rtmdet_runtime.atomic_files import check_writable
from rtmdet_runtime.output import check_output, input_files

from .config import cfg_options, changed_config, config_argument


@click.command('mmdeploy')
@config_argument
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option(
    '--deploy-cfg',
    required=True,
    metavar='CONFIG',
    help='Deploy config: a file or the name of a shipped one, such as rtmdet_plugin::deploy/onnxruntime_static.py.',
)
@click.option(
    '--image',
    type=click.Path(path_type=Path),
    required=True,
    metavar='FILE',
    help='Image with objects, to compare the exported model with PyTorch.',
)
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    required=True,
    metavar='PATH',
    help="Folder to write the files of the backend and of mmdeploy's SDK to; or .onnx, to write only the graph.",
)
@click.option(
    '--device',
    metavar='NAME',
    default='cpu',
    show_default=True,
    help='Device to run the backend on; TensorRT needs cuda:0.',
)
@cfg_options
def command(config, checkpoint, deploy_cfg, image, out, device, changes) -> None:
    """Export the model of CONFIG with the weights of CHECKPOINT through mmdeploy, and compare it with PyTorch.

    CONFIG is a file or the name of a shipped config, such as rtmdet_plugin::rtmdet_s.py. CHECKPOINT is a .pth or
    .safetensors file. To export without mmdeploy, use `rtmdet export`.
    """
    from rtmdet_plugin.inference.device import check_device
    from rtmdet_plugin.mmdeploy_support.deploy import deploy, export_graph

    check_device(device)
    arguments = changed_config(config, changes), checkpoint, deploy_cfg, image, out
    if out.suffix == '.onnx':
        check_output(out, input_files([config, checkpoint]), ('.onnx',))
        export_graph(*arguments)
        click.echo(f'{out}: only the graph, not compared with PyTorch')
    else:
        check_writable(out / 'deploy.json')
        click.echo(deploy(*arguments, device).summary())
