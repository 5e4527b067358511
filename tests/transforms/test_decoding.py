"""Decoding of bad images, of all kinds of good images, and of every EXIF orientation."""

from itertools import product

import cv2
import numpy as np
import pictures
import pytest

from rtmdet_plugin.transforms.decoding import BadImageError, check_complete, decode

SHAPE = pictures.SIZE[::-1]
FULL_AND_HALF = ((None, 1), ((40, 40), 2))  # img_scale, and the share of each side that is decoded


@pytest.mark.parametrize('name', pictures.BAD)
def test_bad_picture_is_refused_by_name(name):
    for img_scale in (None, (40, 40)):  # decoded in full and reduced
        with pytest.raises(BadImageError, match=r'^img/a\.jpg must .* got '):
            decode(pictures.BAD[name], 'img/a.jpg', SHAPE, img_scale)


@pytest.mark.parametrize('name', pictures.GOOD)
def test_every_kind_of_pixels_becomes_8_bit_bgr(name):
    img = decode(pictures.GOOD[name], 'img/a.jpg', SHAPE)
    assert img.shape == (*SHAPE, 3) and img.dtype == np.uint8
    assert pictures.is_right(name, img)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_turned(orientation):
    """An image that was annotated in a viewer, which follows the tag."""
    data = pictures.with_exif(orientation, pictures.as_stored(orientation, pictures.flat()))
    for mode, (img_scale, part) in product(('turned', 'as_annotated'), FULL_AND_HALF):
        img = decode(data, 'a.jpg', SHAPE, img_scale, mode)
        assert img.shape[:2] == tuple(side // part for side in SHAPE)
        np.testing.assert_allclose(pictures.red_box(img), np.array(pictures.BOX) / part, atol=1)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_stored(orientation):
    """An image that was annotated by a tool that doesn't know the tag."""
    data = pictures.with_exif(orientation, pictures.flat())
    modes = ('stored', 'as_annotated') if orientation >= 5 else ('stored',)  # the others have the same size
    for mode, (img_scale, part) in product(modes, FULL_AND_HALF):
        img = decode(data, 'a.jpg', SHAPE, img_scale, mode)
        np.testing.assert_allclose(pictures.red_box(img), np.array(pictures.BOX) / part, atol=1)


@pytest.mark.parametrize('orientation', range(5, 9))
def test_exif_the_other_way_than_was_said_is_refused(orientation):
    stored = pictures.with_exif(orientation, pictures.flat())
    turned = pictures.with_exif(orientation, pictures.as_stored(orientation, pictures.flat()))
    with pytest.raises(BadImageError, match='a.jpg must have .* 96x64 .* got 64x96'):
        decode(stored, 'a.jpg', SHAPE, exif='turned')
    with pytest.raises(BadImageError, match='a.jpg must have .* 96x64 .* got 64x96'):
        decode(turned, 'a.jpg', SHAPE, exif='stored')


def test_exif_without_a_size_is_obeyed():
    data = pictures.with_exif(6, pictures.as_stored(6, pictures.flat()))
    assert decode(data, 'a.jpg').shape[:2] == SHAPE
    assert decode(data, 'a.jpg', exif='stored').shape[:2] == SHAPE[::-1]


@pytest.mark.parametrize('name', [name for name in pictures.BAD if 'jpeg' in name or 'png' in name])
def test_a_cut_file_is_found_without_opencv(name):
    """OpenCV 5 refuses most of these by itself; older versions fill in grey."""
    with pytest.raises(BadImageError, match='without the end'):
        check_complete(pictures.BAD[name], 'a.jpg')


def test_a_jpeg_that_ends_within_a_fill_byte_or_a_segment_is_not_whole():
    start = pictures.JPEG[:2]
    for rest in (b'', b'\xff', b'\xff' * 50, b'\xff\xe1\xff\xf0abc', b'\xff\xd0\xff\xd0', b'\xff\xd9'):
        with pytest.raises(BadImageError):
            check_complete(start + b'\xff' + rest, 'a.jpg')
    filled = start + b'\xff\xff' + pictures.JPEG[2:]
    check_complete(filled, 'a.jpg')


def test_damage_before_an_intact_end_is_not_found():
    """A limit that docs/reliability.md names; OpenCV decodes it and only warns on stderr."""
    noise = cv2.resize(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8), (600, 400))
    data = pictures.encoded('.jpg', noise)
    half = data[: len(data) // 2]
    assert decode(half + b'\xff\xd9', 'a.jpg').shape == (400, 600, 3)
    with pytest.raises(BadImageError):
        decode(half, 'a.jpg')


def test_too_many_pixels_for_opencv(monkeypatch):
    def refuse(*_):
        raise cv2.error('too many pixels')

    monkeypatch.setattr(cv2, 'imdecode', refuse)
    with pytest.raises(BadImageError, match=r'a\.png must be .*too many pixels'):
        decode(pictures.PNG, 'a.png')
