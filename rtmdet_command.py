"""The command `rtmdet`. A verb is one module with a click command `command`; it is imported when it is called.

This module lies outside `rtmdet_plugin`, whose import brings PyTorch: `rtmdet --help` and `rtmdet predict` start
without it.
"""

import importlib
import re
from pickle import UnpicklingError

import click

VERBS = {
    'benchmark': ('rtmdet_plugin.cli.benchmark', 'Measure how long exported models take.'),
    'export': ('rtmdet_plugin.cli.export', 'Write a checkpoint as ONNX, OpenVINO or ncnn model.'),
    'engine': ('rtmdet_plugin.cli.engine', 'Build a TensorRT engine from an exported ONNX model.'),
    'publish': ('rtmdet_plugin.cli.publish', 'Write the weights of a checkpoint for others, as .safetensors or .pth.'),
    'predict': ('rtmdet_runtime.command', 'Find objects in pictures with an exported model.'),
    'quantize': ('rtmdet_plugin.cli.quantize', 'Write an INT8 form of an exported ONNX model.'),
    'test': ('rtmdet_plugin.cli.test', "Evaluate an exported model, or a checkpoint, on a config's test set."),
}
"""Name: module, and the line for `rtmdet --help`."""

EXPECTED = (ValueError, OSError, ImportError, RuntimeError, UnpicklingError)
"""Errors whose message is for the user."""


class Verbs(click.Group):
    """A group that imports a verb when it is called, and turns errors into one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return importlib.import_module(VERBS[name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section('Commands'):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:  # a RuntimeError of click's own, as after --help
            raise
        except EXPECTED as error:
            if ctx.params['traceback']:
                raise
            raise click.ClickException(one_line(error)) from None


def one_line(error: Exception) -> str:
    """The message of an error; of one in a DataLoader's worker without the traceback that PyTorch puts into it."""
    text = str(error)
    if text.startswith('Caught '):
        text = re.split(r'^\S+(?:Error|Exception): ', text, flags=re.MULTILINE)[-1]
    line = ' '.join(text.split()) or type(error).__name__
    return line.encode(errors='replace').decode()  # a file's name may hold bytes that aren't text


@click.group(cls=Verbs, context_settings=dict(help_option_names=['-h', '--help']))
@click.option('--traceback', is_flag=True, help='Show where an error comes from, not only its message.')
def main(traceback: bool) -> None:
    """RTMDet from a checkpoint to where it runs."""


if __name__ == '__main__':
    main()
