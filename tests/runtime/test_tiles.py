"""Tiles cover the image, and each object is found once, with its complete box."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtmdet_runtime import Detections
from rtmdet_runtime.masks import Masks
from rtmdet_runtime.tiles import TiledDetector, ends_at_border, starts


@given(side=st.integers(1, 5000), tile=st.integers(32, 700), overlap=st.floats(0, 0.9))
def test_tiles_cover_the_side_and_overlap(side, tile, overlap):
    found = starts(side, tile, overlap)
    assert found[0] == 0 and found[-1] == max(0, side - tile)
    steps = np.diff(found)
    assert (steps > 0).all() and (steps <= np.ceil(tile * (1 - overlap))).all()


def test_boxes_that_end_where_their_tile_does():
    boxes = np.array([[0, 9, 20, 20], [9, 0, 20, 20], [9, 9, 64, 20], [9, 9, 20, 48], [9, 9, 20, 20]], np.float32)
    assert ends_at_border(boxes, (48, 64), (5, 5, 5, 5), 2).tolist() == [True, True, True, True, False]
    assert ends_at_border(boxes, (48, 64), (0, 5, 0, 5), 2).tolist() == [False, True, False, True, False]
    assert ends_at_border(boxes, (48, 64), (5, 5, 5, 5), 10).all()
    assert ends_at_border(boxes[:0], (48, 64), (5, 5, 5, 5), 2).tolist() == []


class Seer:
    """Finds each object whose colour is in a tile, with its visible part, unless that is narrower than 8 pixels.

    Masks have the pixels of this colour.
    """

    def __init__(self, objects: np.ndarray, score_thr: float = 0.3) -> None:
        self.objects, self.shapes = objects, []
        self.backend = SimpleNamespace(batch=None)
        self.info = SimpleNamespace(score_thr=score_thr, input_size=(128, 128))

    def predict(self, images, batch_size=1):
        if isinstance(images, list):
            assert len(images) <= batch_size
            return [self.predict(image) for image in images]
        self.shapes.append(images.shape[:2])
        shrunk = max(images.shape[:2]) / 128  # the network's input
        found, masks = [], []
        for i in range(len(self.objects)):
            y, x = np.nonzero(images[:, :, 0] == i + 1)
            if len(x) and min(np.ptp(x) + 1, np.ptp(y) + 1) / shrunk >= 8:
                found.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
                masks.append(Masks.from_arrays(images[None, :, :, 0] == i + 1))
        boxes = np.array(found, np.float32).reshape(-1, 4)
        runs = Masks.concatenate([Masks([], images.shape[:2]), *masks])
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int64), masks=runs)


def draw(objects: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(objects):
        image[y1:y2, x1:x2] = i + 1
    return image


@pytest.mark.parametrize('batch_size', [1, 4])
def test_each_object_is_found_once_with_its_complete_box(batch_size):
    """On the border of tiles, in a corner, larger than a tile, and too small for the complete image."""
    objects = np.array([[90, 20, 120, 44], [380, 280, 400, 300], [150, 60, 330, 250], [5, 200, 18, 214]])
    seer = Seer(objects)
    image = draw(objects, (300, 400))
    found = TiledDetector(seer, 128, 0.3, batch_size).predict(image)
    colours = [image[int(y1), int(x1), 0] for x1, y1, _, _ in found.boxes]
    np.testing.assert_array_equal(found.masks.numpy(), [image[..., 0] == colour for colour in colours])
    assert sorted(found.boxes.astype(int).tolist()) == sorted(objects.tolist())
    assert set(seer.shapes[1:]) == {(128, 128)} and found.labels.dtype == np.int64


def test_scores_below_the_threshold_are_dropped_after_they_were_lowered():
    objects = np.array([[0, 0, 500, 10]])
    found = TiledDetector(Seer(objects, score_thr=0.5), 128, 0.3).predict(draw(objects, (130, 600)))
    assert len(found) == 0, 'every tile cuts it, and it is too narrow for the complete image'


def test_an_image_that_fits_into_a_tile_is_predicted_once():
    seer = Seer(np.array([[10, 10, 40, 40]]))
    assert len(TiledDetector(seer, 128).predict(draw(seer.objects, (100, 128)))) == 1 and len(seer.shapes) == 1


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(tile=16), 'tile must be at least 32 pixels, got 16'),
        (dict(overlap=1.0), 'overlap must be from 0 to 0.9, got 1.0'),
        (dict(batch_size=0), 'batch_size must be at least 1, got 0'),
    ],
)
def test_values_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        TiledDetector(Seer(np.zeros((0, 4))), **settings)
