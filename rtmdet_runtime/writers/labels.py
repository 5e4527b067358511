"""Write a label file per image: YOLO or Pascal VOC.

supervision writes them as well, but it needs all images and detections in memory.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..detections import Detections
from ..output import write_result
from ..polygons import joined
from ..sources.item import Item
from .names import of_frame

CLASSES = 'classes'
"""Name of YOLO's file with the class names, without ending."""
MARK = '.rtmdet'
"""File in each folder of `LabelFiles`. Label files in other folders aren't replaced, because people write some."""


def check_labels(folder: Path) -> None:
    """Check that a folder can get label files.

    Raises:
        ValueError: if it has files that aren't from an earlier run.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))):
        raise ValueError(f'{folder} must be a new or an empty folder, or one with labels that rtmdet wrote')


class LabelFiles:
    """Write a label file per image, with boxes clipped to it; see `Writer`.

    Args:
        kind: 'yolo': `IMAGE.txt` with label, centre, width and height of each box, relative to the image, and
            `classes.txt`; of a model with masks, label and polygon of each mask. 'voc': `IMAGE.xml`, with boxes. With
            tracking, the track's id follows in YOLO; in VOC it is an attribute.
        folder: folder to write to.
        classes: class names of the model.
    """

    def __init__(self, kind: str, folder: Path, classes: tuple[str, ...]) -> None:
        self.kind, self.folder = kind, folder
        write_result(folder / MARK, b'')
        if kind == 'yolo':
            write_result(folder / f'{CLASSES}.txt', ''.join(f'{name}\n' for name in classes).encode(errors='replace'))

    def write(self, item: Item, found: Detections, output: Path) -> None:
        """Write the labels of an image; see `Writer`."""
        name = of_frame(output, item)
        text, ending = (yolo(item, found), '.txt') if self.kind == 'yolo' else (voc(item, found, name), '.xml')
        write_result(self.folder / name.with_suffix(ending), text.encode(errors='replace'))

    def finish(self) -> None:
        """Do nothing: all files are complete."""

    def stop(self) -> None:
        """Do nothing: all files are complete."""


def yolo(item: Item, found: Detections) -> str:
    """Return a line per box: label, place relative to the image, and the id of its track.

    The place is the centre, width and height of the box; with masks, it is the polygon of the mask. A line can't have
    several polygons, so those of one mask are joined. A box whose mask is empty has no line.
    """
    found = found.clipped()
    if (masks := found.masks) is None:
        x1, y1, x2, y2 = found.boxes.astype(float).T
        places = list(np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1).reshape(-1, 2, 2))
    else:
        shown = masks.areas > 0
        found, places = found[shown], [joined(parts) for parts in masks[shown].polygons()]
    ids = [''] * len(found) if found.ids is None else [f' {number}' for number in found.ids.tolist()]
    height, width = item.image.shape[:2]
    return ''.join(
        f'{label}{"".join(f" {value:.6f}" for value in (place / (width, height)).flat)}{number}\n'
        for label, place, number in zip(found.labels.tolist(), places, ids, strict=True)
    )


def voc(item: Item, found: Detections, name: Path) -> str:
    """Return the XML of an image; its boxes are in the same pixels as all others, which are counted from 0."""
    height, width, depth = item.image.shape
    root = ElementTree.Element('annotation')
    ElementTree.SubElement(root, 'filename').text = name.as_posix()
    size = ElementTree.SubElement(root, 'size')
    for side, length in (('width', width), ('height', height), ('depth', depth)):
        ElementTree.SubElement(size, side).text = str(length)
    found = found.clipped()
    ids = [None] * len(found) if found.ids is None else found.ids.tolist()
    for box, class_name, number in zip(found.boxes.tolist(), found.names, ids, strict=True):
        node = ElementTree.SubElement(root, 'object')
        ElementTree.SubElement(node, 'name').text = class_name
        ElementTree.SubElement(node, 'difficult').text = '0'
        bounds = ElementTree.SubElement(node, 'bndbox')
        for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True):
            ElementTree.SubElement(bounds, side).text = f'{value:.2f}'
        if number is not None:
            attribute = ElementTree.SubElement(ElementTree.SubElement(node, 'attributes'), 'attribute')
            ElementTree.SubElement(attribute, 'name').text = 'track_id'
            ElementTree.SubElement(attribute, 'value').text = str(number)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode') + '\n'
