"""Draw how a training went: losses, AP, learning rate and times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from .run_files import Run
from .svg_plot import INK, Plot, plot, thinned

AP = 'coco/bbox_mAP'
AP50 = 'coco/bbox_mAP_50'
MASK_AP = 'coco/segm_mAP'
LOSSES = dict(loss='sum', loss_cls='classes', loss_bbox='boxes', loss_mask='masks')
STAGE2 = 'The dashed line marks the beginning of stage 2, without mosaic and MixUp.'


def training_plots(run: Run) -> Iterator[Plot]:
    """Draw the plots that the run has data for."""
    caption = STAGE2 if run.stage2 is not None else ''
    losses = {name: label for name, label in LOSSES.items() if any(name in record for record in run.steps)}
    if losses:
        yield plot('losses', 'Training loss', lambda axes: _lines(axes, run, losses, 'loss'), caption)
    measured = {name: label for name, label in {AP: 'AP', AP50: 'AP50', MASK_AP: 'mask AP'}.items() if run.best(name)}
    if measured:
        yield plot('ap', 'AP of each validation', lambda axes: _validations(axes, run, measured), caption)
    if any('lr' in record for record in run.steps):
        yield plot('lr', 'Learning rate', lambda axes: _lines(axes, run, dict(lr=''), 'learning rate'))
    times = {name: label for name, label in dict(time='step', data_time='of it, waiting for data').items()}
    if all(any(name in record for record in run.steps) for name in times):
        yield plot(
            'times',
            'Time of a step',
            lambda axes: _times(axes, run, times),
            'Training waits for data if the lower line is near the upper one: use more workers. Single peaks are cut '
            'off.',
        )


def _lines(axes: Axes, run: Run, names: dict[str, str], what: str) -> None:
    for name, label in names.items():
        points = [(x, r[name]) for x, r in zip(run.epochs, run.steps, strict=True) if name in r]
        axes.plot(*thinned(*zip(*points, strict=True)), label=label)
    _finish(axes, run, what, legend=len(names) > 1)


def _times(axes: Axes, run: Run, names: dict[str, str]) -> None:
    _lines(axes, run, names, 'seconds')
    usual = np.quantile([record['time'] for record in run.steps if 'time' in record], 0.95)
    axes.set_ylim(0, 1.3 * usual if usual > 0 else None)  # the first step takes many times as long


def _validations(axes: Axes, run: Run, names: dict[str, str]) -> None:
    for name, label in names.items():
        records = [record for record in run.validations if name in record]
        axes.plot([r['step'] for r in records], [r[name] for r in records], 'o-', markersize=3.5, label=label)
    _finish(axes, run, 'AP', legend=True)
    axes.set_ylim(0, 1)


def _finish(axes: Axes, run: Run, what: str, legend: bool) -> None:
    by_epoch = all('epoch' in record for record in run.steps)
    axes.set(xlabel='epoch' if by_epoch else 'step', ylabel=what, ylim=(0, None))
    axes.set_xlim(0, None)
    if run.stage2 is not None and axes.get_xlim()[1] >= run.stage2:
        axes.axvline(run.stage2, color=INK, linestyle='--', linewidth=0.9, alpha=0.6)
    if legend:
        axes.legend()
