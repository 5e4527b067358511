"""Masks as runs: the same as their arrays, COCO's text, and polygons with the same pixels."""

import cv2
import numpy as np
import pytest
from filled_polygons import filled
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from rtmdet_runtime.masks import Masks, compressed
from rtmdet_runtime.polygons import joined, outlines


@st.composite
def arrays(draw):
    """Masks of random pixels: dense, sparse, empty and full."""
    shape = draw(st.integers(0, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    density = draw(st.sampled_from([0, 0.1, 0.5, 0.9, 1]))
    return np.random.default_rng(draw(st.integers(0, 99))).random(shape) < density


@given(arrays())
def test_runs_are_the_arrays(array):
    masks = Masks.from_arrays(array)
    assert len(masks) == len(array) and masks.size == array.shape[1:]
    np.testing.assert_array_equal(masks.numpy(), array)
    np.testing.assert_array_equal(masks.areas, array.sum((1, 2)))
    for rle, mask in zip(masks.rle(), array, strict=True):
        expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        assert rle == dict(size=expected['size'], counts=expected['counts'].decode())


@given(st.lists(st.integers(0, 2**29), min_size=1, max_size=9))
def test_long_runs_are_compressed_as_by_pycocotools(runs):
    expected = coco_mask.frPyObjects(dict(size=[2**20, 2**12], counts=runs), 2**20, 2**12)['counts']
    assert compressed(np.array(runs)) == expected.decode()


def test_selection_and_concatenation():
    array = np.random.default_rng(0).random((4, 5, 6)) < 0.5
    masks = Masks.from_arrays(array)
    for index in (2, slice(1, None), [3, 0], [], np.array([True, False, True, False]), np.array([1, 1])):
        expected = array[[index]] if isinstance(index, int) else array[np.arange(4)[index]]
        np.testing.assert_array_equal(masks[index].numpy(), expected)
    np.testing.assert_array_equal(Masks.concatenate([masks[2:], masks[:0], masks[:1]]).numpy(), array[[2, 3, 0]])
    with pytest.raises(ValueError, match=r'one size, got sizes \[\(1, 1\), \(5, 6\)\]'):
        Masks.concatenate([masks, Masks([], (1, 1))])


def test_placed_in_a_larger_image():
    array = np.random.default_rng(0).random((3, 5, 6)) < 0.5
    array[1] = False
    expected = np.zeros((3, 12, 10), bool)
    expected[:, 4:9, 3:9] = array
    placed = Masks.from_arrays(array).placed(3, 4, (12, 10))
    assert placed.size == (12, 10)
    np.testing.assert_array_equal(placed.numpy(), expected)


@given(arrays())
def test_polygons_have_the_pixels_of_the_mask(array):
    for polygons, mask in zip(Masks.from_arrays(array).polygons(), array, strict=True):
        np.testing.assert_array_equal(filled(polygons, mask.shape), mask)
        if polygons:
            np.testing.assert_array_equal(filled([joined(polygons)], mask.shape), mask)


def test_slanted_sides_take_few_points():
    y, x = np.mgrid[:200, :200] - 99.7
    mask = (x + 0.4 * y) ** 2 + (y / 0.6) ** 2 < 80**2
    (polygon,) = outlines(mask)
    np.testing.assert_array_equal(filled([polygon], mask.shape), mask)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    assert len(polygon) < 1.4 * len(contours[0])


def test_polygons_of_rectangles_are_exact():
    array = np.zeros((4, 20, 30), bool)
    array[0, 3:4, 29:30] = True  # one pixel
    array[1, 2:3, 4:20] = True  # a line
    array[2] = True
    expected = [(29, 3, 30, 4), (4, 2, 20, 3), (0, 0, 30, 20)]
    *found, empty = Masks.from_arrays(array).polygons()
    assert empty == []
    for (polygon,), (x1, y1, x2, y2) in zip(found, expected, strict=True):
        assert sorted(map(tuple, polygon)) == [(x1, y1), (x1, y2), (x2, y1), (x2, y2)]


def test_holes_and_parts():
    mask = np.zeros((30, 40), bool)
    mask[2:26, 3:28] = True
    mask[5:9, 6:12] = mask[12:20, 15:24] = False  # two holes
    mask[14:17, 17:22] = True  # an island in a hole
    mask[8:12, 32:38] = True  # a part of its own
    polygons = Masks.from_arrays(mask[None]).polygons()[0]
    assert len(polygons) == 3
    np.testing.assert_array_equal(filled(polygons, mask.shape), mask)
    np.testing.assert_array_equal(filled([joined(polygons)], mask.shape), mask)
