"""Write the report of a run: read its files, run its best checkpoint on the validation images, and write the page."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rtmdet_runtime.messages import needed_by, one_line
from rtmdet_runtime.output import check_output, input_files, write_result

from ..checkpoints.recommended import save_recommended
from ..checkpoints.work_dir import best_or_last
from ..evaluation.evaluation import Evaluation, evaluate_detections
from ..inference.detect import detect, masks_to_compare
from ..inference.device import device_type
from ..inference.open_for_map import open_for_map
from ..inference.quiet import quiet
from ..inference.truth_of_config import truth_of_config
from .dataset import SplitData, split_data
from .run_files import Run, read_run

NAME = 'report.html'
EARLIER = r'(?s)<!DOCTYPE html>.*<meta name="generator" content="rtmdet_plugin'
"""Pattern of the beginning of earlier reports, which may be replaced."""
MAX_IMAGES = 2000
"""Number of validation images that the checkpoint is run on."""
Truth = Mapping[str, Sequence[dict]]
Part = TypeVar('Part')


@dataclass(frozen=True)
class Measured:
    """What the best checkpoint finds in the validation images."""

    checkpoint: Path
    evaluation: Evaluation
    images: int
    """Number of validation images, of which at most `MAX_IMAGES` are used."""
    bad: dict[str, str]
    """Reason by file, for each image that can't be read."""
    seconds: float
    """Duration of the prediction of one image."""
    device: str
    note: str
    """Why AP is that of boxes only, although the model has masks; '' otherwise."""


def write_report(work_dir: Path, out: Path | None = None) -> Path:
    """Write the report of a run, and the recommended score threshold of its best checkpoint.

    A part of the page that can't be made, for example because the images are gone, is replaced with the reason.

    Args:
        work_dir: work directory of `rtmdet train` or `mim train`; the run may still be running.
        out: file to write; None for `report.html` in the work directory. An earlier report is replaced.

    Returns:
        The file.

    Raises:
        FileNotFoundError: if no training has begun in the work directory.
        ImportError: if a package that draws the report is missing.
        ValueError: if the config can't be read, or a file that isn't a report would be replaced.
        OSError: if the file can't be written.
    """
    out = work_dir / NAME if out is None else out
    run = read_run(work_dir)
    check_output(out, input_files([]), ('.html',), EARLIER)
    with needed_by('the report'):
        from .evaluation_part import evaluation_part
        from .page import page

    problems: list[str] = []

    def attempt(what: str, make: Callable[[], Part]) -> Part | None:
        """Return a part of the page; on any error, of the user's data or code too, None, and note the reason."""
        try:
            with quiet():
                return make()
        except Exception as error:
            problems.append(f'{what}: {one_line(error)}')
            return None

    train = attempt('The training data can not be read', lambda: split_data(truth_of_config(run.config, 'train')))
    truth = attempt('The validation data can not be read', lambda: truth_of_config(run.config, 'val'))
    measured = part = None
    if truth is not None:
        measured = attempt('The checkpoint can not be measured', lambda: measure(run, truth))
    splits: dict[str, SplitData] = {} if train is None else dict(train=train)
    if truth is not None and train is not None:
        splits['val'] = split_data(truth)
    if measured is not None:
        problems += _about(measured)
        counts = {} if train is None else train.counts
        part = attempt(
            'The detections can not be shown',
            lambda: evaluation_part(measured.evaluation, _sentence(measured), counts),
        )
        if (best := measured.evaluation.best) is not None:
            attempt(
                'The recommended score threshold can not be saved',
                lambda: save_recommended(measured.checkpoint, best.score_thr, best.f1),
            )
    text = page(run, splits, measured and measured.evaluation, part, _speed(measured), problems)
    write_result(out, text.encode(errors='replace'))  # a name may contain bytes that aren't valid text
    return out


def report_training(work_dir: Path) -> None:
    """Write the report at the end of a training, and print its path; an error is a warning, and never a failed run."""
    try:
        print(f'Report: {write_report(work_dir)}', flush=True)
    except Exception as error:
        print(
            f'Warning: the report could not be written: {one_line(error)}; try again with: '
            f'rtmdet report {shlex.quote(str(work_dir))}',
            file=sys.stderr,
            flush=True,
        )


def measure(run: Run, truth: Truth) -> Measured:
    """Run the best checkpoint on the validation images, evenly spaced if there are more than `MAX_IMAGES`.

    Raises:
        FileNotFoundError, ValueError: if there is no checkpoint, or it can't be used.
    """
    checkpoint = best_or_last(run.work_dir)
    used = sample(truth, MAX_IMAGES)
    device = device_type()
    detector = open_for_map(checkpoint, run.config, device=device)
    start = time.perf_counter()
    found, bad = detect(detector, used)
    seconds = (time.perf_counter() - start) / len(used['images'])
    masks, note = masks_to_compare(detector, used)
    evaluation = evaluate_detections(used, found, masks=masks)
    return Measured(checkpoint, evaluation, len(truth['images']), bad, seconds, device, note)


def sample(truth: Truth, number: int) -> Truth:
    """Return COCO's lists with at most a number of images, evenly spaced, and their objects."""
    total = len(truth['images'])
    if total <= number:
        return truth
    images = [truth['images'][i * total // number] for i in range(number)]
    ids = {image['id'] for image in images}
    return {**truth, 'images': images, 'annotations': [a for a in truth['annotations'] if a['image_id'] in ids]}


def _sentence(measured: Measured) -> str:
    used = len(measured.evaluation.truth['images'])
    which = f'all {used:,}' if used == measured.images else f'{used:,} of the {measured.images:,}'
    return f'{measured.checkpoint.name} on {which} validation images.'


def _about(measured: Measured) -> list[str]:
    """Return sentences about what limits the figures."""
    lines = [measured.note] if measured.note else []
    used = len(measured.evaluation.truth['images'])
    if used < measured.images:
        lines.append(
            f'The figures of the checkpoint are those of {used:,} evenly spaced images of {measured.images:,}; '
            '`rtmdet val` uses all.'
        )
    if measured.bad:
        reasons = '; '.join(list(measured.bad.values())[:5])
        lines.append(f'{len(measured.bad)} validation images can not be read; their objects are missed: {reasons}')
    return lines


def _speed(measured: Measured | None) -> list[tuple[str, str, str]]:
    if measured is None:
        return []
    note = f'per image in PyTorch, with reading it, on {"a GPU" if measured.device == "cuda" else "the CPU"}'
    return [('Prediction', f'{1000 * measured.seconds:.0f} ms', note)]
