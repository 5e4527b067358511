"""Draw a dataset: sizes and places of its objects, and sizes of its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .dataset import SplitData
from .svg_plot import COLOURS, Plot, plot

CELLS = 24
"""Number of cells of the grid of places, in each direction."""
STRIDE = 8  # pixels; the finest level of RTMDet


def dataset_plots(splits: Mapping[str, SplitData], input_size: tuple[int, int] | None) -> Iterator[Plot]:
    """Draw the plots of a dataset.

    Args:
        splits: the training split, and any others, by name.
        input_size: (height, width) of the network's input in pixels; None if it isn't known.
    """
    train = splits['train']
    if input_size is not None and len(train.boxes):
        sides = {name: split.sides(input_size) for name, split in splits.items() if len(split.boxes)}
        small = (sides['train'] < STRIDE).mean()
        yield plot(
            'object-sizes',
            'Sizes of the objects',
            lambda axes: _object_sizes(axes, sides),
            f'Square root of the area, at the input size. {small:.0%} of the training objects are smaller than '
            f'{STRIDE} pixels, the finest stride.',
        )
    if len(train.boxes):
        yield plot(
            'places',
            'Places of the objects',
            lambda axes: _places(axes, train.places(CELLS)),
            'Number of centres of training objects in each part of the image.',
        )
    yield plot(
        'image-sizes',
        'Sizes of the images',
        lambda axes: _image_sizes(axes, splits),
        'A larger dot stands for more images of this size.',
    )


def _object_sizes(axes: Axes, sides: Mapping[str, np.ndarray]) -> None:
    largest = max(values.max() for values in sides.values())
    smallest = max(1, min(values.min() for values in sides.values()))
    bins = np.geomspace(0.9 * smallest, 1.1 * largest, 33)
    for name, values in sides.items():
        share = np.full(len(values), 1 / len(values))
        axes.hist(np.clip(values, smallest, None), bins, weights=share, histtype='step', linewidth=1.6, label=name)
    axes.set_xscale('log')
    shown = [2**n for n in range(12) if bins[0] <= 2**n <= bins[-1]]
    axes.set_xticks(shown, [str(side) for side in shown])
    axes.minorticks_off()
    axes.set(xlabel='pixels', ylabel='share of the objects')
    axes.legend()


def _places(axes: Axes, grid: np.ndarray) -> None:
    image = axes.imshow(grid, cmap='viridis', vmin=0, extent=(0, 1, 1, 0), aspect='auto')
    axes.grid(False)
    axes.set(xlabel='part of the width', ylabel='part of the height')
    axes.figure.colorbar(image, ax=axes, label='objects')


def _image_sizes(axes: Axes, splits: Mapping[str, SplitData]) -> None:
    for (name, split), colour in zip(splits.items(), COLOURS, strict=False):
        sizes, counts = np.unique(split.sizes, axis=0, return_counts=True)
        style: dict[str, Any] = dict(color=colour, alpha=0.45, linewidths=0)
        axes.scatter(*sizes.T, s=20 + 180 * counts / counts.max(), **style)
        axes.scatter([], [], s=30, label=name, **style)  # in the legend, dots of one size
    width, height = 1.15 * np.concatenate([split.sizes for split in splits.values()]).max(0)
    axes.set(xlabel='width (pixels)', ylabel='height (pixels)', xlim=(0, width), ylim=(0, height))
    axes.legend()
