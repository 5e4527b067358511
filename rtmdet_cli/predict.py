"""The command `rtmdet predict`: find objects in images and videos; print, draw and save them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtmdet_runtime.choices import DEPLOY_THRESHOLDS, LABELS, RECORDS, TILE_OVERLAP
from rtmdet_runtime.output import STDOUT, input_files

from .options import (
    backend_option,
    batch_size_option,
    precision_option,
    size_option,
    threads_beside_others,
    threads_option,
)
from .window import Window, check_display

if TYPE_CHECKING:
    from rtmdet_runtime.detections import Detections
    from rtmdet_runtime.sources.item import Item
    from rtmdet_runtime.writers import Writer
    from rtmdet_runtime.writers.targets import Inputs

FORMATS = RECORDS | LABELS
STDIN = '-'
"""Source that stands for names on standard input."""


def threshold_option(*names: str, metavar: str, kind: type, text: str) -> Callable:
    """Return an option that replaces a threshold of the model."""
    default = DEPLOY_THRESHOLDS[names[-1]]
    return click.option(
        *names, type=kind, metavar=metavar, help=f"{text} Default: the model's, {default} unless exported otherwise."
    )


@click.command('predict')
@click.argument('model')
@click.argument('sources', metavar='SOURCE...', nargs=-1, required=True)
@threshold_option('--conf', '--score-thr', 'score_thr', metavar='0..1', kind=float, text='Score threshold.')
@threshold_option('--iou', '--iou-thr', 'iou_thr', metavar='0..1', kind=float, text='IoU threshold of NMS.')
@threshold_option(
    '--max',
    '--max-per-img',
    'max_per_img',
    metavar='N',
    kind=int,
    text='Maximum number of boxes, per tile with --tile.',
)
@click.option('--classes', multiple=True, metavar='A,B', help='Names of the classes to find. Default: all.')
@click.option(
    '--out',
    type=click.Path(path_type=Path),
    metavar='FOLDER',
    help='Folder to write copies of the images and videos to, with boxes and masks drawn on them.',
)
@click.option(
    '--save',
    'saved',
    multiple=True,
    metavar='FORMAT[=PATH]',
    help=f'Format to write boxes in, and masks except in csv and voc: {", ".join(FORMATS)}. Default of PATH: '
    'predictions.FORMAT or labels_FORMAT, in the folder of --out, or else in this one. May be repeated.',
)
@click.option(
    '--json',
    'json_file',
    metavar='FILE',
    help='File (.json) to write boxes, scores and classes to; - for standard output. Short for --save json=FILE.',
)
@click.option('--crops', is_flag=True, help='Write the part of the image in each box, in crops/CLASS, see --save.')
@click.option('--recursive', is_flag=True, help='Read the subfolders of folders too.')
@click.option(
    '--every',
    type=click.IntRange(1),
    default=1,
    metavar='N',
    show_default=True,
    help='Use only every N-th frame of videos and cameras.',
)
@click.option(
    '--tile',
    type=click.IntRange(32),
    metavar='PIXELS',
    help='Predict images in overlapping tiles of this width and height, for images larger than the input.',
)
@click.option(
    '--overlap',
    type=click.FloatRange(0, 0.9),
    default=TILE_OVERLAP,
    show_default=True,
    metavar='0..0.9',
    help='Share of a tile that it has in common with the next one.',
)
@click.option('--track', is_flag=True, help='Follow the objects of videos, and write the id of each one.')
@click.option('--show', is_flag=True, help='Show the images in a window; q, Escape or closing it ends.')
@backend_option
@size_option
@batch_size_option
@threads_option
@precision_option
@click.option('--device', help='Device of a checkpoint: cpu, cuda, cuda:1, ... Default: cuda if PyTorch sees it.')
@click.option('--config', help='Config of a checkpoint. Default: the one in the checkpoint or next to it.')
def command(
    model, sources, score_thr, iou_thr, max_per_img, classes, out, saved, json_file, crops, recursive, every, tile,
    overlap, track, show, backend, size, batch_size, threads, precision, device, config,
) -> None:  # fmt: skip
    """Find objects in every SOURCE with a MODEL.

    MODEL is an exported model (.onnx, .xml, .param, .engine), which doesn't need PyTorch; a checkpoint (.pth,
    .safetensors); or the name of published weights, such as rtmdet_s.

    SOURCE is an image, a video, a folder, a quoted pattern ('images/**/*.jpg'), an address (http, https, rtsp), the
    number of a camera, or - to read such names from standard input. Videos need the package av.

    For each image or video, a line with the number of objects of each class is printed. Images that can't be read are
    reported and skipped; the exit code is then 1. Outputs have the images' names, and the folders below a folder that
    was given; if a name is taken already, a number is added.

    Images with more than 180 million pixels are refused; the environment variable RTMDET_MAX_PIXELS sets another limit.
    Decoding takes at least 6 bytes of memory per pixel, 1.1 GB at this limit.
    """
    if score_thr is not None and not 0 <= score_thr <= 1:
        raise ValueError(f'--conf must be from 0 to 1, got {score_thr}')
    from rtmdet_runtime.writers.targets import Inputs, check_drawn

    saved = [*saved, f'json={json_file}'] if json_file is not None else saved
    targets = list(saved_targets(saved, out or Path()))
    folders = [Path(source) for source in sources if Path(source).is_dir()]
    outputs = [*([out] if out is not None else []), *([crops_folder(out)] if crops else [])]
    files = input_files([model, *(source for source in sources if source != STDIN)])
    inputs = Inputs(files, folders, recursive, outputs)
    check_saved(targets, inputs)
    if out is not None:
        check_drawn(sources, out, inputs)
    if show:
        check_display()
    from rtmdet_runtime.detector import RTMDetector
    from rtmdet_runtime.sources import read_sources
    from rtmdet_runtime.stream import find

    names = [name.strip() for part in classes for name in part.split(',')]
    thresholds = dict(score_thr=score_thr, iou_thr=iou_thr, max_per_img=max_per_img)
    threads = threads or threads_beside_others(model, device)
    settings = dict(backend=backend, size=size, precision=precision, device=device, config=config)
    detector = RTMDetector(model, classes=names or None, threads=threads, **thresholds, **settings)
    named = [names_on_stdin() if source == STDIN else source for source in sources]
    items = read_sources(named, every, recursive, outputs)
    to_stdout = any(path == STDOUT for _, path in targets)
    with contextlib.closing(find(detector, items, batch_size, tile, overlap, track)) as results, shown_rate() as report:
        lines = Lines(partial(click.echo, err=to_stdout))
        writers = open_writers(out, targets, crops, inputs, detector.info.classes)
        write_results(results, writers, lines, report, Window() if show else None)
    if lines.bad:
        raise click.ClickException(
            f'bad images: {lines.bad} of {lines.bad + lines.done}, listed above; {lines.done} were predicted'
        )


def saved_targets(saved: list[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield format and path of each value of --save.

    Raises:
        ValueError: if the format is unknown, or its path is empty.
    """
    for value in saved:
        kind, separator, path = value.partition('=')
        if kind not in FORMATS or separator and not path:
            raise ValueError(f'--save must be FORMAT or FORMAT=PATH with one of {", ".join(FORMATS)}, got {value}')
        yield kind, Path(path) if path else folder / FORMATS[kind]


def check_saved(targets: list[tuple[str, Path]], inputs: Inputs) -> None:
    """Check that results can be saved without replacing an input, another file or each other.

    Raises:
        ValueError, OSError: see `check_records` and `check_labels`.
    """
    from rtmdet_runtime.writers.labels import check_labels
    from rtmdet_runtime.writers.records import check_records

    taken = set()
    for kind, path in targets:
        if kind in RECORDS:
            check_records(kind, path, inputs)
        else:
            check_labels(path)
        if path.resolve() in taken:
            raise ValueError(f'--save must have a file or folder of its own for each format, got {path} twice')
        taken.add(path.resolve())


def crops_folder(out: Path | None) -> Path:
    """Return the folder of --crops."""
    return (out or Path()) / 'crops'


def open_writers(
    out: Path | None, targets: list[tuple[str, Path]], crops: bool, inputs: Inputs, classes: tuple[str, ...]
) -> list[Writer]:
    """Return the writers; those of records are last, because they keep what was found if another one fails."""
    from rtmdet_runtime.writers.drawn import Crops, DrawnFiles
    from rtmdet_runtime.writers.labels import LabelFiles
    from rtmdet_runtime.writers.records import RecordFile

    writers: list[Writer] = [DrawnFiles(out, inputs)] if out is not None else []
    writers += [Crops(crops_folder(out), inputs)] if crops else []
    writers += [LabelFiles(kind, path, classes) for kind, path in targets if kind not in RECORDS]
    return writers + [RecordFile(kind, path, classes) for kind, path in targets if kind in RECORDS]


def write_results(
    results, writers: list[Writer], lines: Lines, report: Callable[[int], None], window: Window | None
) -> None:
    """Write each result with all writers, show it, and end the writers; the last image stays in the window.

    After Ctrl-C or an error, say how many images are done.
    """
    from rtmdet_runtime.sources.item import Problem
    from rtmdet_runtime.uninterrupted import uninterrupted
    from rtmdet_runtime.writers.drawn import DrawnFiles
    from rtmdet_runtime.writers.labels import CLASSES, LabelFiles
    from rtmdet_runtime.writers.names import OutputNames

    names = OutputNames([CLASSES] if any(isinstance(writer, LabelFiles) for writer in writers) else [])
    waits = False
    try:
        for result in results:
            if isinstance(result, Problem):
                lines.problem(result.line)
                continue
            item, found = result
            with uninterrupted():
                output = names.of(item)
                for writer in writers:
                    try:
                        writer.write(item, found, output)
                    except ValueError as error:
                        lines.problem(Problem(error).line)
                lines.result(item, found)
            report(lines.done)
            if window is not None:
                shown = window.show(found)
                waits = shown and item.video is None
                if not shown:
                    break
        with uninterrupted():
            while writers:
                writers.pop(0).finish()
        if window is not None and waits:
            window.wait()
    except BaseException as error:
        with uninterrupted(), contextlib.ExitStack() as stack:
            for writer in writers:
                stack.callback(writer.stop)
        for writer in writers:
            if isinstance(writer, DrawnFiles) and writer.removed is not None:
                click.echo(f'{writer.removed} is not written, because its video was not complete', err=True)
        if lines.done or isinstance(error, KeyboardInterrupt):
            click.echo(f'images that are done, with complete outputs: {lines.done}', err=True)
        raise
    lines.end_video()


class Lines:
    """Print a line for each image, video and problem, and count them.

    Args:
        say: function that prints a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.done, self.bad = say, 0, 0
        self._last: Item | None = None
        self._frames, self._found = 0, Counter()

    def problem(self, line: str) -> None:
        """Report an image that can't be read or written."""
        self.bad += 1
        click.echo(line, err=True)

    def result(self, item: Item, found: Detections) -> None:
        """Report an image; count a frame."""
        if self._last is not None and item.video is not self._last.video:
            self.end_video()
        self.done += 1
        if item.video is None:
            self.say(f'{click.format_filename(item.source)}: {found.summary()}')
            return
        self._last = item
        self._frames += 1
        self._found.update(found.names)

    def end_video(self) -> None:
        """Report the current video."""
        if self._last is not None:
            objects = ', '.join(f'{count} {name}' for name, count in self._found.most_common()) or 'nothing'
            self.say(f'{click.format_filename(self._last.source)}: {self._frames} frames, {objects}')
        self._last, self._frames, self._found = None, 0, Counter()


def names_on_stdin() -> Iterator[str]:
    """Yield the lines of standard input that aren't empty.

    They are read without Python's buffer: a thread that waits for a line would hold the buffer's lock, and the
    interpreter crashes if it needs the lock to end.
    """
    try:
        read = partial(os.read, sys.stdin.fileno(), 65536)
    except io.UnsupportedOperation:  # replaced by an object in memory
        read = sys.stdin.buffer.read
    rest = b''
    while part := read():
        *lines, rest = (rest + part).split(b'\n')
        yield from filter(None, map(_name, lines))
    if name := _name(rest):
        yield name


def _name(line: bytes) -> str:
    return os.fsdecode(line.rstrip(b'\r\n'))


@contextlib.contextmanager
def shown_rate() -> Iterator[Callable[[int], None]]:
    """Give a function that shows the number of images and images/s on standard error, if it is a terminal."""
    try:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    except ModuleNotFoundError:  # the extra `runtime` doesn't have it
        yield lambda done: None
        return
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    columns = SpinnerColumn(), TextColumn('{task.completed:.0f} images, {task.fields[rate]:.1f}/s'), TimeElapsedColumn()
    console, start = Console(stderr=True), time.monotonic()
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task('', total=None, rate=0.0)
        yield lambda done: bar.update(task, completed=done, rate=done / max(time.monotonic() - start, 1e-9))
