"""Write what is known about a run as one HTML page, which needs no network."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import jinja2
import numpy as np

from ..evaluation.evaluation import Evaluation
from ..version import __version__
from .dataset import SplitData
from .dataset_plots import dataset_plots
from .evaluation_part import EvaluationPart
from .run_files import Run
from .settings import settings_of
from .training_plots import AP, AP50, MASK_AP, training_plots

TEMPLATES = Path(__file__).parent / 'templates'
LIMIT = 100
"""Number of bad samples, and of warnings, that the page lists."""
SKIPPED = 'Skipped: '
"""Beginning of the facts about samples that `rtmdet train` skipped when it read the data."""
Card = tuple[str, str, str]
"""Name, value and note."""


def page(
    run: Run,
    splits: Mapping[str, SplitData],
    evaluation: Evaluation | None,
    part: EvaluationPart | None,
    speed: Sequence[Card],
    problems: Sequence[str],
) -> str:
    """Return the page.

    Args:
        run: files of the run.
        splits: training and validation data; empty if they can't be read.
        evaluation: ground truth and detections of the best checkpoint; None if there are none.
        part: the sections about it.
        speed: cards about the prediction.
        problems: sentences about sections that are missing.
    """
    settings = settings_of(run)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template('page.html').render(
        title=run.work_dir.resolve().name,
        version=__version__,
        date=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
        state=_state(run),
        summary=_summary(run, splits, evaluation),
        problems=problems,
        facts=[fact for fact in run.facts if not fact.startswith(SKIPPED)],
        settings=settings,
        with_reasons=any(setting.reason for setting in settings),
        training_plots=list(training_plots(run)),
        evaluation=part,
        splits=splits,
        class_counts=_class_counts(splits),
        dataset_plots=list(dataset_plots(splits, run.input_size)) if splits else [],
        bad_samples=[
            *(fact.removeprefix(SKIPPED) for fact in run.facts if fact.startswith(SKIPPED)),
            *run.log.bad_samples,
        ],
        warnings=list(islice(run.log.warnings.items(), LIMIT)),
        more_warnings=max(0, len(run.log.warnings) - LIMIT),
        limit=LIMIT,
        speed=[*_training_speed(run), *speed],
    )


def _state(run: Run) -> str:
    done, planned = run.finished_epochs, run.max_epochs
    if planned is None or done >= planned:
        return 'The training is complete.'
    if run.log.stopped:
        return f'The training was stopped early after {done} of {planned} epochs: {run.log.stopped}'
    return f'{done} of {planned} epochs are complete: the training is still running, or was interrupted.'


def _summary(run: Run, splits: Mapping[str, SplitData], evaluation: Evaluation | None) -> list[Card]:
    cards = []
    if evaluation is not None:
        cards += [
            ('AP', f'{evaluation.ap.ap:.3f}', 'of the best checkpoint'),
            ('AP50', f'{evaluation.ap.ap50:.3f}', ''),
        ]
        if (masks := evaluation.mask_ap) is not None:
            cards += [('Mask AP', f'{masks.ap:.3f}', ''), ('Mask AP50', f'{masks.ap50:.3f}', '')]
        if (best := evaluation.best) is not None:
            cards.append(('Score threshold', f'{best.score_thr:.3f}', f'best F1: {best.f1:.3f}'))
    elif (record := run.best(AP)) is not None:
        when = f'validation after epoch {record["step"]}' if record['step'] else 'the weights before the training'
        cards.append(('AP', f'{record[AP]:.3f}', when))
        cards += [
            (name, f'{record[metric]:.3f}', '')
            for metric, name in {AP50: 'AP50', MASK_AP: 'Mask AP'}.items()
            if metric in record
        ]
    if run.max_epochs is not None:
        cards.append(('Epochs', f'{run.finished_epochs} of {run.max_epochs}', ''))
    cards.append(('Time', duration(run.log.seconds), 'training and validations'))
    if splits:
        train = splits['train']
        others = ', '.join(f'{len(split.sizes)} for {name}' for name, split in splits.items() if name != 'train')
        cards.append(('Training images', f'{len(train.sizes):,}', others))
        cards.append(('Training objects', f'{len(train.boxes):,}', f'{len(train.classes)} classes'))
    return cards


def _class_counts(splits: Mapping[str, SplitData]) -> list[tuple[str, list[int]]]:
    if not splits:
        return []
    counts = [split.counts for split in splits.values()]
    return [(name, [count.get(name, 0) for count in counts]) for name in splits['train'].classes]


def _training_speed(run: Run) -> list[Card]:
    times = [record['time'] for record in run.steps if 'time' in record]
    if not times:
        return []
    step = float(np.median(times))
    cards = [('Training step', f'{step:.3g} s', 'median of the logged means')]
    if (batch := (run.config.get('train_dataloader') or {}).get('batch_size')) and step > 0:
        cards.append(('Training', f'{batch / step:.3g} images/s', 'per process'))
    waits = [record['data_time'] for record in run.steps if 'data_time' in record]
    if waits and step > 0:
        cards.append(('Waiting for data', f'{np.median(waits) / step:.0%}', 'of a training step'))
    return cards


def duration(seconds: float) -> str:
    """Return a duration as text, such as '1 h 5 min'."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{minutes // 60} h {minutes % 60} min' if minutes >= 60 else f'{minutes} min'
