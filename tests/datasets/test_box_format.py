"""Boxes in other formats are recognised; boxes in COCO's format are accepted, even if some extend past their image."""

import numpy as np
import pytest

from rtmdet_plugin.datasets.box_format import box_format

SIZE = np.array([640, 480])


def coco_boxes(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes inside their images, as x, y, width, height, and the images' sizes."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(0.05, 0.5, (count, 2)) * SIZE
    return np.concatenate([rng.uniform(0, 1, (count, 2)) * (SIZE - sides), sides], 1), np.tile(SIZE, (count, 1))


def corners(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def centres(boxes):
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1)


@pytest.mark.parametrize(
    ('write', 'said'),
    [
        (corners, '200 fit into it if read as x1, y1, x2, y2, which seems'),
        (centres, '200 fit into it if read as centre x, centre y, width, height, which seems'),
        (lambda boxes: centres(boxes) / np.tile(SIZE, 2), '200 of 200 boxes consist of numbers from 0 to 1'),
    ],
    ids=['xyxy', 'cxcywh', 'shares'],
)
def test_other_formats(write, said):
    boxes, sizes = coco_boxes()
    found = box_format(write(boxes), sizes)
    assert said in found.doubt and found.doubt.endswith('it must be x, y, width, height in pixels')


def test_a_few_mistakes_do_not_hide_the_format():
    boxes, sizes = coco_boxes()
    boxes = corners(boxes)
    boxes[:2] = (600, 400, 10, 10)
    assert 'x1, y1, x2, y2' in box_format(boxes, sizes).doubt


def test_boxes_that_stick_out_are_no_other_format():
    """Objects that the image cuts off, annotated with their invisible part."""
    boxes, sizes = coco_boxes()
    boxes[:40, 0] = SIZE[0] - boxes[:40, 2] / 2
    boxes[40:80, 1] = -boxes[40:80, 3] / 2
    found = box_format(boxes, sizes)
    assert (found.past, found.total, found.doubt, found.many_past) == (80, 200, '', True)


def test_rounded_boxes_and_no_boxes():
    boxes, sizes = coco_boxes()
    boxes[:, 2:] = SIZE - boxes[:, :2] + 1  # a pixel past the image
    assert box_format(boxes, sizes).past == 0 and not box_format(boxes, sizes).many_past
    nothing = box_format(boxes[:0], sizes[:0])
    assert (nothing.total, nothing.doubt, nothing.many_past) == (0, '', False)
