"""Results with masks: selected, converted, drawn, and written in every format."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filled_polygons import filled
from pycocotools.coco import COCO

from rtmdet_runtime import Detections
from rtmdet_runtime.drawing import label_colour
from rtmdet_runtime.masks import Masks
from rtmdet_runtime.sources.item import Item
from rtmdet_runtime.writers.labels import LabelFiles
from rtmdet_runtime.writers.records import RecordFile

CLASSES = ('cat', 'dog')


def arrays() -> np.ndarray:
    """A ring, two parts, and an empty mask."""
    found = np.zeros((3, 40, 60), bool)
    found[0, 4:24, 6:36] = True
    found[0, 10:16, 12:20] = False
    found[1, 30:36, 40:44] = found[1, 28:40, 50:60] = True
    return found


@pytest.fixture
def found() -> Detections:
    boxes = np.array([[6, 4, 36, 24], [40, 28, 62, 40], [2, 2, 9, 9]], np.float32)
    image = np.full((40, 60, 3), 90, np.uint8)
    scores = np.array([0.9, 0.5, 0.3], np.float32)
    return Detections(boxes, scores, np.array([1, 0, 1]), CLASSES, 'a.png', image, masks=Masks.from_arrays(arrays()))


def written(writer, found: Detections) -> None:
    writer.write(Item(found.image, 'a.png', Path('a.png')), found, Path('a.png'))
    writer.finish()


def test_masks_are_selected_with_their_boxes(found):
    for index in (slice(1, None), [1, 0], found.scores < 0.6, 'dog'):
        expected = found.labels == 1 if isinstance(index, str) else index
        np.testing.assert_array_equal(found[index].masks.numpy(), arrays()[expected])
    assert len(found['cat'][[]].masks) == 0 and found['cat'][[]].masks.size == (40, 60)
    outside = replace(found, boxes=found.boxes - [[0] * 4, [90] * 4, [0] * 4]).clipped()
    np.testing.assert_array_equal(outside.masks.numpy(), arrays()[[0, 2]])


def test_the_pixels_of_masks_are_tinted(found):
    image = replace(found['cat'], boxes=np.zeros((1, 4), np.float32)).plot()[28:]  # below the name
    mask = arrays()[1, 28:]
    assert np.abs(image[mask] - (np.array(label_colour(0)) / 2 + 45)).max() <= 1
    assert (image[~mask] == 90).all()


def test_supervision(found):
    pytest.importorskip('supervision', reason='supervision is not installed')
    np.testing.assert_array_equal(found.to_supervision().mask, arrays())


@pytest.mark.parametrize('kind', ['json', 'jsonl'])
def test_polygons_in_json(found, tmp_path, kind):
    written(RecordFile(kind, tmp_path / 'a.json', CLASSES), found)
    text = (tmp_path / 'a.json').read_text()
    values = json.loads(text)[0] if kind == 'json' else json.loads(text)
    assert [len(parts) for parts in values['polygons']] == [1, 2, 0]
    for parts, array in zip(values['polygons'], arrays(), strict=True):
        np.testing.assert_array_equal(filled([np.reshape(part, (-1, 2)) for part in parts], array.shape), array)
    assert len(text.splitlines()) < 40


def test_run_lengths_in_coco(found, tmp_path):
    written(RecordFile('coco', tmp_path / 'a.json', CLASSES), found)
    coco = COCO(str(tmp_path / 'a.json'))
    annotations = coco.loadAnns(coco.getAnnIds())
    np.testing.assert_array_equal([coco.annToMask(annotation) for annotation in annotations], arrays())
    assert [annotation['area'] for annotation in annotations] == arrays().sum((1, 2)).tolist()


@pytest.mark.parametrize('ids', [None, np.array([7, 8, 9])])
def test_polygons_in_yolo(found, tmp_path, ids):
    written(LabelFiles('yolo', tmp_path, CLASSES), replace(found, ids=ids))
    rows = [line.split() for line in (tmp_path / 'a.txt').read_text().splitlines()]
    assert [row[0] for row in rows] == ['1', '0']
    if ids is not None:
        assert [row.pop() for row in rows] == ['7', '8']
    for row, array in zip(rows, arrays(), strict=False):
        polygon = np.array(row[1:], float).reshape(-1, 2) * (60, 40)
        np.testing.assert_array_equal(filled([polygon], array.shape), array)


@pytest.mark.parametrize('kind', ['csv', 'voc'])
def test_boxes_only_in_csv_and_voc(found, tmp_path, kind):
    texts = []
    for name, result in (('with', found), ('without', replace(found, masks=None))):
        path = tmp_path / f'{name}.csv'
        written(RecordFile(kind, path, CLASSES) if kind == 'csv' else LabelFiles(kind, path, CLASSES), result)
        texts.append((path if kind == 'csv' else path / 'a.xml').read_text())
    assert texts[0] == texts[1] and texts[0].count('dog') == 2
