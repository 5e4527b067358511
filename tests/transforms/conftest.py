"""Generated images for the mixing transforms."""

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks

# BGR, far from each other, from the background and from the padding, also after averaging with either.
COLOURS = ((250, 30, 30), (30, 250, 30), (30, 30, 250), (250, 250, 30))


def make_results(seed, width=61, height=47, num_boxes=3, channels=3, masks=None):
    """Return a pipeline's dict with a noise image of (height, width[, channels]) and random boxes of >= 4 px."""
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels is None else (height, width, channels)
    x1 = rng.uniform(0, max(width - 4, 0), num_boxes)
    y1 = rng.uniform(0, max(height - 4, 0), num_boxes)
    x2 = rng.uniform(x1 + 4, width)
    y2 = rng.uniform(y1 + 4, height)
    boxes = np.stack([x1, y1, x2, y2], 1).astype(np.float32).reshape(-1, 4)
    results = {
        'img': rng.integers(0, 256, shape, dtype=np.uint8),
        'img_shape': (height, width),
        'gt_bboxes': HorizontalBoxes(torch.from_numpy(boxes)),
        'gt_bboxes_labels': rng.integers(0, 80, num_boxes),
        'gt_ignore_flags': rng.random(num_boxes) < 0.3,
        'img_id': seed,
    }
    if masks == 'bitmap':
        results['gt_masks'] = BitmapMasks(rng.integers(0, 2, (num_boxes, height, width), np.uint8), height, width)
    elif masks == 'polygon':
        polygons = [[np.array([a, b, c, b, c, d, a, d], dtype=np.float64)] for a, b, c, d in boxes]
        results['gt_masks'] = PolygonMasks(polygons, height, width)
    return results


def make_flat(label, width=60, height=40, box=(12, 8, 36, 28), channels=3, masks=None):
    """Return a grey image with one flat rectangle of the label's colour, its box (xyxy, integers) and its mask."""
    x1, y1, x2, y2 = box
    img = np.full((height, width, 3), 10, np.uint8)
    img[y1:y2, x1:x2] = COLOURS[label]
    if channels != 3:
        img = img.max(axis=2) if channels is None else img.max(axis=2, keepdims=True)
    results = {
        'img': img,
        'img_shape': (height, width),
        'gt_bboxes': HorizontalBoxes(torch.tensor([box], dtype=torch.float32)),
        'gt_bboxes_labels': np.array([label]),
        'gt_ignore_flags': np.array([label == 1]),
    }
    if masks == 'bitmap':
        bitmap = np.zeros((1, height, width), np.uint8)
        bitmap[0, y1:y2, x1:x2] = 1
        results['gt_masks'] = BitmapMasks(bitmap, height, width)
    elif masks == 'polygon':
        polygon = np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64)
        results['gt_masks'] = PolygonMasks([[polygon]], height, width)
    return results


def find_colour(img, colour, tolerance):
    """Return the box (xyxy) around the pixels within `tolerance` of `colour`; None if there are none."""
    near = (np.abs(img.astype(int) - np.asarray(colour)) <= tolerance).all(axis=2)
    if not near.any():
        return None
    ys, xs = np.nonzero(near)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


@pytest.fixture(scope='session')
def random_results():
    return make_results


@pytest.fixture
def flat_results():
    return make_flat


@pytest.fixture
def colours():
    return COLOURS


@pytest.fixture
def colour_box():
    return find_colour
