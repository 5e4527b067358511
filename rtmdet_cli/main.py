"""The command `rtmdet`: a group of click commands. The module of a command is imported when it is called."""

import importlib
import os
import runpy
import sys
from pathlib import Path
from pickle import UnpicklingError

try:
    import click
except ModuleNotFoundError:
    sys.exit('Error: rtmdet needs click, which is not installed: pip install click')

COMMANDS = {
    'browse': ('rtmdet_cli.browse', 'Draw images of a dataset with their boxes, as they are or augmented.'),
    'doctor': ('rtmdet_cli.doctor', 'Look for problems of a dataset and of this machine before a training.'),
    'benchmark': ('rtmdet_cli.benchmark', 'Measure the latency and throughput of exported models.'),
    'convert': ('rtmdet_cli.convert', "Convert a checkpoint of mmyolo's RTMDet to mmdet's names, or back."),
    'export': ('rtmdet_cli.export', 'Export a checkpoint as an ONNX, OpenVINO or ncnn model.'),
    'mmdeploy': ('rtmdet_cli.mmdeploy', 'Export a checkpoint through mmdeploy, for its backends and SDK.'),
    'migrate': ('rtmdet_cli.migrate', "Write a config that uses mmdet's, with the parts of this package."),
    'engine': ('rtmdet_cli.engine', 'Build a TensorRT engine from an exported ONNX model.'),
    'publish': (
        'rtmdet_cli.publish',
        'Write the weights of a checkpoint without training state, as .safetensors or .pth.',
    ),
    'predict': ('rtmdet_cli.predict', 'Find objects in images, videos and cameras; draw and save them.'),
    'quantize': ('rtmdet_cli.quantize', 'Quantise an exported ONNX model to INT8.'),
    'report': ('rtmdet_cli.report', 'Write a report of a training as one HTML page.'),
    'train': ('rtmdet_cli.train', 'Train a detector on a folder of images with annotations.'),
    'val': ('rtmdet_cli.val', 'Evaluate a model on a dataset: AP, thresholds, kinds of errors.'),
    'test': ('rtmdet_cli.test', "Evaluate an exported model or a checkpoint on a config's test set."),
}
"""Name: module, and the line in `rtmdet --help`."""

EXPECTED = (ValueError, OSError, ImportError, RuntimeError, UnpicklingError)
"""Errors that are shown to the user as one line, without a traceback."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the number of SIGINT, as usual for programs that a signal ends."""


class Commands(click.Group):
    """Import a command when it is called; report expected errors as one line, with exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a command; None if there is none of this name."""
        if name not in COMMANDS:
            return None
        return importlib.import_module(COMMANDS[name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing them."""
        with formatter.section('Commands'):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; expected errors and interruptions end it with one line."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:  # a RuntimeError that click raises, for example after --help
            raise
        except BrokenPipeError:  # `rtmdet ... | head`, which click handles
            raise
        except KeyboardInterrupt:
            click.echo('Interrupted', err=True)
            ctx.exit(INTERRUPTED)
        except EXPECTED as error:
            if ctx.params['traceback']:
                raise
            raise click.ClickException(line_for_user(error, f'rtmdet {ctx.invoked_subcommand}')) from None


def line_for_user(error: Exception, command: str) -> str:
    """Return an error as one line, which names the package to install or the file on a full disk."""
    from rtmdet_runtime.atomic_files import FULL
    from rtmdet_runtime.messages import missing_package, one_line

    if isinstance(error, ModuleNotFoundError):
        error = missing_package(error, command)
    if isinstance(error, OSError):
        discard_output()
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
        if error.strerror != os.strerror(error.errno):  # the checkpoint hook's, which names the file
            return one_line(ValueError(error.strerror))
        return f'standard output or a temporary file (see TMPDIR) can not be written: {error.strerror}'
    return one_line(error)


def discard_output() -> None:
    """Discard output that could not be written, which Python would otherwise report again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Print the version of rtmdet_plugin without importing it, and exit."""
    if value and not ctx.resilient_parsing:
        version = runpy.run_path(str(Path(__file__).parents[1] / 'rtmdet_plugin' / 'version.py'))
        click.echo(f'rtmdet {version["__version__"]}')
        ctx.exit()


@click.group(cls=Commands, context_settings=dict(help_option_names=['-h', '--help']))
@click.option('--traceback', is_flag=True, help='Show the traceback of an error, not only its message.')
@click.option(
    '--version',
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help='Show the version and exit.',
)
def main(traceback: bool) -> None:
    """Train, export, evaluate, quantise and run RTMDet detectors.

    Exit codes: 0 for success; 1 after an error, or if an image could not be read; 2 for wrong options; 130 after
    Ctrl-C.
    """


if __name__ == '__main__':
    main()
