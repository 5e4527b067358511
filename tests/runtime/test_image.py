"""Images to network inputs: bit for bit equal to mmdet's test pipeline if the fixed size of the input allows it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.dataset import Compose, pseudo_collate

from rtmdet_runtime.image import letterbox, normalization_table, read_image, write_input


@pytest.mark.parametrize('shape', [(48, 64), (64, 48), (333, 500), (97, 33), (640, 640), (2, 100)])
@pytest.mark.parametrize('to_rgb', [False, True])
def test_same_input_as_mmdet(info, tmp_path, shape, to_rgb):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    prepare = Compose(
        [
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(64, 64), keep_ratio=True),
            dict(type='Pad', size=(64, 64), pad_val=dict(img=(114, 114, 114))),
            dict(type='PackDetInputs', meta_keys=('img_path', 'scale_factor')),
        ]
    )
    normalise = MODELS.build(
        dict(type='DetDataPreprocessor', mean=list(info.mean), std=list(info.std), bgr_to_rgb=to_rgb)
    )
    packed = prepare(dict(img_path=str(tmp_path / 'image.png'), img_id=0))
    expected = normalise(pseudo_collate([packed]), False)['inputs'][0]

    canvas, scale = letterbox(read_image(tmp_path / 'image.png'), (64, 64), info.pad_value)
    found = np.zeros((3, 64, 64), np.float32)
    write_input(canvas, normalization_table(replace(info, to_rgb=to_rgb)), to_rgb, found)
    assert torch.equal(torch.from_numpy(found), expected)
    assert scale == tuple(packed['data_samples'].scale_factor)


def mmdets_canvas(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """Return mmdet's canvas (`Resize` and `Pad`) of a size (height, width), and the scale factors (x, y)."""
    prepare = Compose(
        [
            dict(type='Resize', scale=size[::-1], keep_ratio=True),
            dict(type='Pad', size=size[::-1], pad_val=dict(img=(114, 114, 114))),
        ]
    )
    results = prepare(dict(img=image, img_shape=image.shape[:2]))
    return results['img'], results['scale_factor']


@pytest.mark.parametrize(
    ('size', 'shape'),
    [
        ((48, 64), (48, 64)),
        ((48, 64), (333, 500)),
        ((48, 64), (20, 100)),  # the width limits the scale
        ((48, 64), (100, 110)),  # the height limits the scale
        ((48, 64), (50, 50)),
        ((64, 48), (500, 333)),
        ((64, 48), (110, 100)),
        ((64, 48), (50, 50)),
    ],
)
def test_same_canvas_as_mmdet_for_the_same_orientation(size, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected, expected_scale = mmdets_canvas(image, size)
    canvas, scale = letterbox(image, size, (114, 114, 114))
    np.testing.assert_array_equal(canvas, expected)
    assert scale == expected_scale


@pytest.mark.parametrize(
    ('size', 'shape', 'theirs', 'ours'),
    [
        ((48, 64), (64, 48), (64, 64), (48, 36)),
        ((48, 64), (500, 333), (64, 64), (48, 32)),
        ((48, 64), (51, 50), (49, 64), (48, 47)),
        ((64, 48), (48, 64), (64, 64), (36, 48)),
    ],
)
def test_mmdet_swaps_the_sides_of_resize_but_not_of_pad(size, shape, theirs, ours):
    """An image of the other orientation is larger in mmdet, and so is the canvas; the runtime's canvas stays.

    `theirs` is the size of mmdet's canvas, `ours` that of the image in the runtime's canvas.
    """
    image = np.full((*shape, 3), 7, np.uint8)
    assert mmdets_canvas(image, size)[0].shape[:2] == theirs
    canvas, scale = letterbox(image, size, (114, 114, 114))
    assert canvas.shape[:2] == size
    assert (canvas[: ours[0], : ours[1]] == 7).all()
    assert (canvas[ours[0] :] == 114).all() and (canvas[:, ours[1] :] == 114).all()
    assert scale == (ours[1] / shape[1], ours[0] / shape[0])


def test_letterbox_into_a_canvas_that_is_not_square():
    image = np.full((40, 20, 3), 7, np.uint8)
    canvas, scale = letterbox(image, (64, 96), (1, 2, 3))
    assert canvas.shape == (64, 96, 3) and scale == (1.6, 1.6)
    assert (canvas[:, :32] == 7).all() and (canvas[:, 32:] == (1, 2, 3)).all()


def test_a_sliver_keeps_a_pixel():
    canvas, scale = letterbox(np.zeros((1, 200, 3), np.uint8), (64, 64), (114, 114, 114))
    assert (canvas[0] == 0).all() and (canvas[1:] == 114).all() and scale == (0.32, 1.0)


def test_stretch():
    canvas, scale = letterbox(np.zeros((40, 20, 3), np.uint8), (64, 96), (1, 2, 3), keep_ratio=False)
    assert canvas.shape == (64, 96, 3) and (canvas == 0).all() and scale == (4.8, 1.6)


class TestReading:
    def test_non_ascii_name_and_grey_image(self, tmp_path):
        path = tmp_path / 'Straße 日本.png'
        cv2.imencode('.png', np.full((5, 6), 9, np.uint8))[1].tofile(path)
        assert (read_image(path) == 9).all() and read_image(str(path)).shape == (5, 6, 3)

    def test_refusals(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='none.jpg: no such image'):
            read_image(tmp_path / 'none.jpg')
        for content in (b'', b'not an image'):
            (tmp_path / 'bad.jpg').write_bytes(content)
            with pytest.raises(ValueError, match='bad.jpg must be an image that OpenCV can decode, got .* bytes'):
                read_image(tmp_path / 'bad.jpg')

    @pytest.mark.parametrize('image', [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
    def test_arrays_that_are_no_image(self, image):
        with pytest.raises(ValueError, match='image must be BGR, uint8, .H, W, 3., got'):
            read_image(image)
