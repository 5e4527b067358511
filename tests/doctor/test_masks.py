"""Masks: what the doctor finds in the annotation files of a model with masks."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_data import HEIGHT, WIDTH, write_coco
from pycocotools import mask as coco_mask

from rtmdet_plugin.doctor.examine import examine
from rtmdet_plugin.doctor.masks import crossing_polygons, disagree, examine_masks, polygons_of

BOW_TIE = [[1, 1, 9, 9, 9, 1, 1, 9]]
SQUARE = [1, 1, 9, 1, 9, 9, 1, 9]


def code(x, y, width, height):
    bitmap = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    bitmap[y : y + height, x : x + width] = 1
    found = coco_mask.encode(bitmap)
    return dict(size=found['size'], counts=found['counts'].decode())


def corners(x, y, width, height):
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


@pytest.fixture
def change(tmp_path):
    """Return a function that writes masks, with changes by split and place of the object, and examines them."""
    write_coco(tmp_path, 12, 6)

    def examined(changes: dict, model: str = 'ins-tiny'):
        for split, folder in dict(train='train', val='valid').items():
            file = tmp_path / folder / '_annotations.coco.json'
            content = json.loads(file.read_text())
            for place, item in enumerate(content['annotations']):
                item['segmentation'] = (code if place % 2 else corners)(*item['bbox'])
                item.update(changes.get((split, place), {}))
            file.write_text(json.dumps(content))
        found = examine(str(tmp_path), model)
        return found.facts, [f for f in found.findings if 'mask' in f.kind or 'polygon' in f.kind]

    return examined


def test_sound_masks_have_no_finding(change):
    facts, findings = change({})
    assert findings == [] and facts['masks'] == '14 polygons, 13 run-length codes'


def test_masks_are_examined_for_models_with_masks_only(change):
    facts, findings = change({('train', 0): dict(segmentation=None)}, 'tiny')
    assert findings == [] and 'masks' not in facts


TRAIN = {
    'have no segmentation; they are trained as background': dict(segmentation=[]),
    'of another size than their image; they are trained as background': dict(
        segmentation=dict(size=[WIDTH, HEIGHT], counts=[WIDTH * HEIGHT])
    ),
    'have a damaged run-length code; their images are skipped': dict(
        segmentation=dict(size=[HEIGHT, WIDTH], counts='aSh02')
    ),
    'have a run-length code without a pixel; they are trained': dict(segmentation=code(0, 0, 0, 0)),
    'no polygon of three points with an area inside their image; they': dict(segmentation=corners(90, 70, 9, 9)),
    'have polygons of fewer than three points next to others': dict(
        segmentation=[[1, 1, 5, 5], SQUARE], bbox=[1, 1, 8, 8]
    ),
    'have a polygon that crosses itself': dict(segmentation=BOW_TIE, bbox=[1, 1, 8, 8]),
    'have an IoU below 0.5 with the box around their mask': dict(
        segmentation=corners(1, 1, 20, 20), bbox=[30, 20, 20, 20]
    ),
}


def test_each_problem_of_a_training_mask_is_a_finding(change):
    _, findings = change({('train', place): item for place, item in enumerate(TRAIN.values())})
    texts = {finding.text: finding for finding in findings}
    for place, said in enumerate(TRAIN):
        (text,) = [text for text in texts if said in text]
        assert text.startswith('train: 1 of 18 ') and texts[text].severity == (
            'note' if 'polygons of' in said or 'crosses' in said else 'warning'
        )
        (item,) = texts[text].items
        assert item.annotation == [1, 11, 12, 21, 31, 32, 41, 51][place]
    assert len(findings) == len(TRAIN)


def test_masks_that_no_training_or_evaluation_can_use_are_errors(change):
    changes = {('train', place): dict(segmentation=None) for place in range(18)}
    changes[('val', 1)] = dict(segmentation=[[1, 1, 5, 5], SQUARE])
    changes[('val', 2)] = dict(segmentation=dict(size=[HEIGHT, WIDTH], counts='aSh02'), iscrowd=1)
    _, findings = change(changes)
    assert {finding.severity for finding in findings} == {'error'}
    train, box, crowd = sorted((finding.text for finding in findings), key=lambda text: (text[:3], 'crowd' in text))
    assert train == 'train: 18 of 18 objects have no segmentation; rtmdet train refuses the data'
    assert 'val: 1 of 8 objects begin with a polygon of fewer than three' in box and 'AP of masks can not' in box
    assert 'val: 1 crowds have a damaged run-length code; the AP of masks can not be computed' in crowd


@pytest.mark.parametrize(
    ('polygon', 'crosses'),
    [
        (SQUARE, False),
        (BOW_TIE[0], True),
        ([*SQUARE, *SQUARE], False),  # twice the same way: its edges touch only
        ([0, 0, 8, 0, 8, 8, 4, 0, 0, 8], False),  # a corner on another edge
        ([0, 0, 8, 0, 8, 8, 4, -1, 0, 8], True),
        ([0, 0, 0, 0, 8, 0, 8, 8, 0, 8, 0, 0], False),  # repeated points
    ],
)
def test_polygons_that_cross_themselves(polygon, crosses):
    for shift in (0, 0.3):
        found = polygons_of([None, [SQUARE, [value + shift for value in polygon]]])
        assert crossing_polygons(found).tolist() == [False, crosses]


coordinates = st.integers(0, 9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7), min_size=1, max_size=4))
def test_crossings_are_those_of_all_pairs(polygons):
    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    def cross(points):
        edges = [(points[i - 1], points[i]) for i in range(len(points))]
        return any(
            side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0 for a, b in edges for c, d in edges
        )

    flat = [[[value for point in points for value in point]] for points in polygons]
    _, crossing = examine_masks(flat)
    assert crossing.tolist() == [cross(points) for points in polygons]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=3))
def test_boxes_of_run_length_codes(bitmaps):
    codes, expected = [], []
    for bits in bitmaps:
        bitmap = np.array(bits, np.uint8).reshape(3, 4)
        codes.append(coco_mask.encode(np.asfortranarray(bitmap)))
        rows, columns = bitmap.nonzero()
        nothing = [np.nan] * 4
        expected.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if bitmap.any() else nothing)
    boxes, crossing = examine_masks(codes)
    np.testing.assert_array_equal(boxes, expected)
    assert not crossing.any()


def test_small_differences_of_boxes_and_masks_are_rounding():
    boxes = np.array([[0, 0, 3, 3], [0, 0, 30, 30], [0, 0, 30, 30], [0, 0, 30, 30.0]])
    masks = np.array([[1, 1, 2, 2], [0, 0, 30, 16], [0, 0, 30, 14], [np.nan] * 4])
    assert disagree(boxes, masks, np.full((4, 2), 40.0)).tolist() == [False, False, True, False]
    assert not disagree(boxes[2:3], masks[2:3], np.full((1, 2), 14.0)).any(), 'both are clipped to the image'
