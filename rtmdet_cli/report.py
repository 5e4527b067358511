"""The command `rtmdet report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command('report')
@click.argument('work_dir', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File (.html) to write. Default: report.html in WORK_DIR.',
)
def command(work_dir: Path, out: Path | None) -> None:
    """Write a report of the training in WORK_DIR as one HTML page.

    WORK_DIR is the work directory of `rtmdet train` or `mim train`, also while the training runs or after it was
    interrupted. The page needs no network. The best checkpoint is run on the validation images, at most 2,000 of them;
    the score threshold with the best F1 is also written to recommended.json next to the checkpoint, from where
    `rtmdet export` takes it.
    """
    # Import rtmdet_plugin first: its error names the missing package of PyTorch or OpenMMLab.
    from rtmdet_plugin.report.write import write_report

    click.echo(click.format_filename(write_report(work_dir, out)))
