"""Write the images of `rtmdet browse`, or those that findings are about, into one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment

from rtmdet_runtime.drawing import draw_box, jpeg_uri

from ..datasets.preview import GREY, Picture
from ..training.formats.images import SampleError, image_size
from .browse import LARGEST, read_scaled
from .finding import Finding, Item
from .objects import Objects
from .text import count_by_severity, line_of

BEGINNING = '<!DOCTYPE html>\n<!-- Written by rtmdet. -->'
"""Beginning of each page. Only files with it are replaced."""
SIDE = 320
"""Longer side of an image on the page of the doctor, in pixels."""
SHOWN = 12
"""Number of items of a finding that are shown with their image."""
RED = (40, 40, 255)

TEMPLATE = (
    BEGINNING
    + """
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 1.5rem auto; padding: 0 1rem; max-width: 80rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dd { margin: 0; }
dt, figcaption, small { opacity: .75; }
.images { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; max-width: min(100%, {{ side }}px); }
figcaption { font-size: .8rem; }
img { max-width: 100%; height: auto; display: block; margin-bottom: .25rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
.severity { padding: 0 .5em; border: 1px solid; border-radius: .5em; font-size: .8em; }
.error { color: #b00020; }
.warning { color: #8a5a00; }
.note { color: #00639b; }
@media (prefers-color-scheme: dark) {
  .error { color: #ff8a80; }
  .warning { color: #ffcc66; }
  .note { color: #8ecbff; }
}
</style>
</head>
<body>
<h1>{{ title }}</h1>
<dl>
{%- for name, value in facts.items() %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{%- endfor %}
</dl>
{%- for section in sections %}
<section>
{%- if section.title %}
<h2><span class="severity {{ section.severity }}">{{ section.severity }}</span> {{ section.title }}</h2>
<p>{{ section.text }}</p>
{%- endif %}
<div class="images">
{%- for figure in section.figures %}
<figure>
{%- for source in figure.sources %}
<img src="{{ source }}" alt="{{ figure.caption }}" loading="lazy">
{%- endfor %}
<figcaption>{{ figure.caption }}</figcaption>
</figure>
{%- endfor %}
</div>
{%- if section.more %}
<p><small>and {{ section.more }} more</small></p>
{%- endif %}
</section>
{%- endfor %}
</body>
</html>
"""
)


class Figure(NamedTuple):
    """Images under one caption, as data URIs."""

    sources: list[str]
    caption: str


class Section(NamedTuple):
    """A finding with its images, or only images."""

    figures: list[Figure]
    severity: str = ''
    title: str = ''
    text: str = ''
    more: int = 0


def page_of_pictures(title: str, pictures: Sequence[Picture]) -> bytes:
    """Return a page of images."""
    figures = [Figure([jpeg_uri(picture.image)], picture.caption) for picture in pictures]
    return render(title, {}, [Section(figures)], LARGEST)


def page_of_findings(facts: Mapping[str, str], findings: Sequence[Finding], splits: Sequence[Objects]) -> bytes:
    """Return a page of findings with their images.

    Args:
        facts: values by name.
        findings: findings in the order in which they are shown.
        splits: images and boxes of the dataset.
    """
    known = {file: (objects, place) for objects in splits for place, file in enumerate(objects.files)}
    sections = []
    for finding in findings:
        by_file: dict[str, list[Item]] = {}
        for item in finding.items:
            by_file.setdefault(item.file, []).append(item)
        figures = [_figure(file, items, known) for file, items in list(by_file.items())[:SHOWN]]
        more = max(0, len(by_file) - SHOWN)
        sections.append(Section(figures, finding.severity, finding.kind, finding.text, more))
    return render('rtmdet doctor', {**facts, 'findings': count_by_severity(findings)}, sections, SIDE)


def render(title: str, facts: Mapping[str, str], sections: Sequence[Section], side: int) -> bytes:
    """Return the page; all texts are escaped, because names of files and classes may contain anything.

    Args:
        title: title of the page.
        facts: values by name.
        sections: sections in their order.
        side: largest width of an image in pixels.
    """
    template = Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(title=title, facts=facts, sections=sections, side=side).encode(errors='replace')


def _figure(file: str, items: list[Item], known: Mapping[str, tuple[Objects, int]]) -> Figure:
    """Return an image with all its boxes in grey, and those of the finding in red; next to it, what it is a copy of."""
    others = dict.fromkeys(item.other for item in items if item.other)
    sources = [jpeg_uri(img) for name in (file, *others) for img in _drawn(name, items, known)]
    return Figure(sources, '; '.join(map(line_of, items[:3])) + ('; ...' if len(items) > 3 else ''))


def _drawn(file: str, items: list[Item], known: Mapping[str, tuple[Objects, int]]) -> Iterator[np.ndarray]:
    """Yield the image; nothing if it can't be decoded."""
    objects, place = known.get(file, (None, 0))
    try:
        size = image_size(Path(file)) if objects is None else objects.sizes[place].astype(int).tolist()
    except SampleError:  # a broken image, or a file of labels
        return
    if (found := read_scaled(file, size, SIDE, SIDE)) is None:
        return
    img, scale = found
    for box in () if objects is None else objects.boxes[objects.images == place]:
        draw_box(img, box * scale, GREY, width=1)
    for item in items:
        if item.box is not None and item.file == file:
            draw_box(img, np.array(item.box) * scale, RED)
    yield img
