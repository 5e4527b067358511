"""Image files of all formats, valid and broken, as bytes: a red rectangle on a dark background."""

import io
import struct

import cv2
import numpy as np
from PIL import Image

SIZE = (96, 64)
"""(width, height)"""
BOX = (24, 16, 64, 48)
"""xyxy"""


def flat(size=SIZE, box=BOX):
    """BGR, uint8, (height, width, 3)."""
    img = np.full((size[1], size[0], 3), 10, np.uint8)
    img[box[1] : box[3], box[0] : box[2]] = (30, 30, 250)
    return img


def encoded(suffix='.jpg', img=None, *settings):
    return cv2.imencode(suffix, flat() if img is None else img, *settings)[1].tobytes()


def by_pillow(form, mode='RGB', **settings):
    content = io.BytesIO()
    picture = Image.fromarray(flat()[..., ::-1])
    if mode == '1':
        picture = picture.getchannel('R').convert('1', dither=Image.Dither.NONE)
    else:
        picture = (picture.convert('L') if mode == 'LA' else picture).convert(mode)
    picture.save(content, form, **settings)
    return content.getvalue()


def animated(form):
    """Return three frames, the first of which is the image."""
    others = [Image.fromarray(np.full((SIZE[1], SIZE[0], 3), value, np.uint8)) for value in (90, 200)]
    lossless = {'lossless': True} if form == 'WEBP' else {}
    return by_pillow(form, save_all=True, append_images=others, **lossless)


def with_exif(orientation, img=None, thumbnail=b''):
    """Return a JPEG with an EXIF orientation tag, followed by other bytes."""
    tag = struct.pack('>HHIHH', 0x0112, 3, 1, orientation, 0)
    exif = b'Exif\0\0MM\0*' + struct.pack('>IH', 8, 1) + tag + b'\0' * 4 + thumbnail
    data = encoded('.jpg', img)
    return data[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + data[2:]


def as_stored(orientation, img):
    """Return the pixels of a file whose orientation tag makes a viewer show `img`."""
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undo[orientation](img))


def red_box(img):
    """Return the red rectangle, xyxy."""
    x, y, width, height = cv2.boundingRect(((img[..., 2] > 128) & (img[..., 0] < 128)).astype(np.uint8))
    return x, y, x + width, y + height


JPEG = encoded('.jpg')
PNG = encoded('.png')

# Broken files, which are replaced with another sample.
BAD = {
    'empty': b'',
    'text': b'see the folder of last year\n',
    'html': b'<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n',
    'random bytes': np.random.default_rng(0).bytes(5000),
    'zeros': bytes(5000),
    'jpeg cut in half': JPEG[: len(JPEG) // 2],
    'jpeg cut in its header': JPEG[:30],
    'jpeg without its last byte': JPEG[:-1],
    'jpeg whose rest is zeros': JPEG[: len(JPEG) // 2] + bytes(len(JPEG) - len(JPEG) // 2),
    'cut jpeg with a whole thumbnail': with_exif(1, thumbnail=encoded('.jpg', flat()[::4, ::4]))[:-300],
    'png cut in half': PNG[: len(PNG) // 2],
    'png without its last chunk': PNG[:-12],
    'gif cut in half': by_pillow('GIF')[:60],
    'webp cut in half': by_pillow('WEBP')[:100],
    'bmp cut in half': by_pillow('BMP')[:9000],
    'tiff cut in half': by_pillow('TIFF')[:9000],
    '32-bit float tiff': by_pillow('TIFF', 'F'),
    'another size': encoded('.jpg', flat((48, 32), (12, 8, 32, 24))),
    'size turned, without a tag': encoded('.jpg', flat((64, 96), (16, 24, 48, 64))),
}

# Valid files, which must be decoded to 8-bit BGR with the rectangle in its place.
GOOD = {
    'jpeg': JPEG,
    'progressive jpeg': by_pillow('JPEG', progressive=True),
    'grayscale jpeg': by_pillow('JPEG', 'L'),
    'cmyk jpeg': by_pillow('JPEG', 'CMYK'),
    'jpeg with bytes after its end': JPEG + b'\0' * 500,
    'png': PNG,
    'grayscale png': by_pillow('PNG', 'L'),
    'bilevel png': by_pillow('PNG', '1'),
    'palette png': by_pillow('PNG', 'P'),
    'alpha png': by_pillow('PNG', 'RGBA'),
    'gray alpha png': by_pillow('PNG', 'LA'),
    '16-bit png': encoded('.png', flat().astype(np.uint16) * 257),
    '16-bit gray png': encoded('.png', flat()[..., 2].astype(np.uint16) * 257),
    'bmp': by_pillow('BMP'),
    'tiff': by_pillow('TIFF'),
    'cmyk tiff': by_pillow('TIFF', 'CMYK'),
    'gif': by_pillow('GIF'),
    'animated gif': animated('GIF'),
    'webp': by_pillow('WEBP', lossless=True),
    'animated webp': animated('WEBP'),
    'png saved as jpg': PNG,
}
COLOURLESS = ('gray', 'bilevel')


def is_right(name, img):
    """Return whether a decoded image of `GOOD` shows the rectangle in its place."""
    bright = img.max(axis=2) if not any(word in name for word in COLOURLESS) else img[..., 0]
    dark = bright[2, 2]
    found = cv2.boundingRect((bright > (int(dark) + int(bright[32, 44])) / 2).astype(np.uint8))
    return np.abs(np.array(found) - (BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1])).max() <= 1
