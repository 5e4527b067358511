"""Sizes from the headers of all formats; images that would fill the memory are refused."""

import struct
import zlib

import cv2
import numpy as np
import pictures
import pytest

from rtmdet_cli.images import read_images
from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.transforms.decoding import BadImageError, decode
from rtmdet_runtime.image import read_image
from rtmdet_runtime.image_size import MAX_PIXELS, VARIABLE, PixelLimitError, check_pixels, image_size


def png_header(width: int, height: int) -> bytes:
    """Return a small PNG with this size in its header."""
    chunk = b'IHDR' + struct.pack('>II', width, height) + b'\x08\x02\0\0\0'
    checksum = struct.pack('>I', zlib.crc32(chunk))
    return b'\x89PNG\r\n\x1a\n\0\0\0\x0d' + chunk + checksum + pictures.PNG[33:]


def test_size_in_the_header_of_every_format():
    others = {
        'lossy webp': pictures.by_pillow('WEBP'),
        'big tiff': pictures.by_pillow('TIFF', big_tiff=True),
        'jpeg with bytes between its segments': pictures.JPEG[:20] + b'\0\0' + pictures.JPEG[20:],
        'bmp, upper row first': pictures.encoded('.bmp')[:22] + struct.pack('<i', -64) + pictures.encoded('.bmp')[26:],
    }
    for name, data in {**pictures.GOOD, **others}.items():
        assert image_size(data) == pictures.SIZE, name


def test_a_gif_of_more_than_32767_pixels_a_side():
    data = pictures.by_pillow('GIF')
    data = data[:6] + struct.pack('<HH', 40000, 20000) + data[10:]
    assert image_size(data) == (40000, 20000)
    with pytest.raises(ValueError, match='got 40,000 x 20,000'):
        check_pixels(data, 'a.gif')


def test_the_bmp_header_of_os2():
    rows = np.full((100, 100, 3), 90, np.uint8).tobytes()
    header = struct.pack('<IHHHH', 12, 100, 100, 1, 24)
    data = b'BM' + struct.pack('<IHHI', 26 + len(rows), 0, 0, 26) + header + rows
    assert image_size(data) == (100, 100) and decode(data, 'a.bmp').shape == (100, 100, 3)


def test_unknown_size_is_no_error():
    for data in (b'', b'text', *(data[:8] for data in pictures.GOOD.values())):
        assert image_size(data) is None
        check_pixels(data, 'a')


def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    path.write_bytes(png_header(40000, 30000))
    with monkeypatch.context() as patch:
        patch.setattr(cv2, 'imdecode', None)
        with pytest.raises(ValueError, match='a.png: .* at most 180,000,000 pixels, got 40,000 x 30,000 = 1,200,000,'):
            read_image(path)
        with pytest.raises(BadImageError, match='a.png: .* at most 180,000,000 pixels, got 40,000 x 30,000'):
            decode(path.read_bytes(), 'a.png', (30000, 40000))
    monkeypatch.setenv(VARIABLE, '2000000000')
    with pytest.raises(
        ValueError, match='a.png must be an image that OpenCV can decode, got .* raise OPENCV_IO_MAX_IMAGE'
    ) as said:
        read_image(path)
    assert '\n' not in str(said.value)


def test_limit_is_configurable(tmp_path, monkeypatch):
    (tmp_path / 'a.jpg').write_bytes(pictures.JPEG)
    monkeypatch.setenv(VARIABLE, str(96 * 64 - 1))
    with pytest.raises(ValueError, match='at most 6,143 pixels, got 96 x 64 = 6,144; set RTMDET_MAX_PIXELS'):
        read_image(tmp_path / 'a.jpg')
    monkeypatch.setenv(VARIABLE, str(96 * 64))
    assert read_image(tmp_path / 'a.jpg').shape == (64, 96, 3)
    monkeypatch.setenv(VARIABLE, '')
    assert read_image(tmp_path / 'a.jpg').shape == (64, 96, 3)


@pytest.mark.parametrize('text', ['0', '-1', '1e9', 'many'])
def test_a_wrong_limit_is_no_bad_image(tmp_path, monkeypatch, text):
    (tmp_path / 'a.jpg').write_bytes(pictures.JPEG)
    monkeypatch.setenv(VARIABLE, text)
    said = f'{VARIABLE} must be an integer of at least 1, got {text!r}'
    with pytest.raises(PixelLimitError, match=said):
        list(read_images([tmp_path / 'a.jpg'], []))
    with pytest.raises(RefusedError, match=said) as caught:
        decode(pictures.JPEG, 'a.jpg')
    assert not isinstance(caught.value, BadImageError)


def test_limit_applies_to_the_size_after_reduced_decoding():
    """Training decodes a JPEG of 200 million pixels, such as an aerial image, at a fraction of its size."""
    data = bytearray(pictures.JPEG)
    start = data.index(b'\xff\xc0')
    data[start + 5 : start + 9] = struct.pack('>HH', 10000, 20000)
    assert image_size(bytes(data)) == (20000, 10000) and MAX_PIXELS < 10000 * 20000
    check_pixels(bytes(data), 'a.jpg', part=2)
    with pytest.raises(ValueError, match='a.jpg'):
        check_pixels(bytes(data), 'a.jpg')
    reduced = decode(pictures.encoded('.jpg', np.zeros((64, 64, 3), np.uint8)), 'a.jpg', (64, 64), (8, 8))
    assert reduced.shape == (8, 8, 3)
