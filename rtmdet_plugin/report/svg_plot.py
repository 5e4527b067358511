"""Draw a plot as SVG for the page: transparent, and in the page's text colour, so that it reads in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = '#0a0b0c'
"""Colour of text and axes while drawing; the page's `currentColor` takes its place."""
COLOURS = ('#2f81f7', '#e8710a', '#1a9e5c', '#c44ad0')
SIZE = (4.4, 3.0)
"""Width and height in inches; at this size, text is readable on a phone and next to two other plots."""
MAX_POINTS = 400
STYLE: dict[Any, Any] = {
    'svg.fonttype': 'none',  # text stays text: small, and in the page's font
    'font.size': 9,
    'text.color': INK,
    'axes.labelcolor': INK,
    'axes.edgecolor': INK,
    'xtick.color': INK,
    'ytick.color': INK,
    'grid.color': INK,
    'grid.alpha': 0.15,
    'axes.grid': True,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'legend.frameon': False,
    'legend.fontsize': 8,
    'lines.linewidth': 1.4,
    'axes.prop_cycle': f"cycler('color', {list(COLOURS)})",
}


class Plot(NamedTuple):
    """A plot in the page."""

    name: str
    """Identifies it in the page."""
    title: str
    svg: str
    caption: str = ''


def plot(name: str, title: str, draw: Callable[[Axes], None], caption: str = '') -> Plot:
    """Draw a plot. Texts in it must come from this package, because the page includes the SVG as it is.

    Args:
        name: identifies it in the page.
        title: title above it.
        draw: function that draws into the axes.
        caption: sentence below it.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # The salt makes the names of markers and clip paths in the SVG unique in the page, and always the same.
        for key, value in {**STYLE, 'svg.hashsalt': name}.items():
            matplotlib.rcParams[key] = value
        figure = Figure(figsize=SIZE, layout='constrained')
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format='svg', transparent=True, metadata=dict(Date=None))
    return Plot(name, title, _inline(text.getvalue()), caption)


def _inline(svg: str) -> str:
    """Return the SVG element without what only a file needs: its header, size, style and names of groups."""
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r' *<metadata>.*?</metadata>\n?', '', svg, flags=re.DOTALL)
    svg = re.sub(r' *<style .*?</style>\n?', '', svg, flags=re.DOTALL)  # it would apply to the entire page
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', svg, count=1)
    svg = re.sub(r'<g id="[^"]*"', '<g', svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", 'inherit', svg)
    return svg.replace('xlink:href', 'href').replace(INK, 'currentColor')


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `MAX_POINTS` points, each the mean of neighbouring ones."""
    parts = min(len(x), MAX_POINTS)
    if not parts:
        return np.zeros(0), np.zeros(0)
    points = np.array_split(np.array([x, y], dtype=float), parts, axis=1)
    means = np.array([part.mean(axis=1) for part in points])
    return means[:, 0], means[:, 1]
