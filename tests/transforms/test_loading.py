"""Loading: mmdet's result, reduced decoding, and bad images and annotations."""

import copy
import io
import pickle
import struct

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS

from rtmdet_plugin.transforms.decoding import BadImageError
from rtmdet_plugin.transforms.loading import RTMLoadImageAndAnnotations

BOX = (120, 80, 360, 280)


def flat_image(width=600, height=400, box=BOX):
    img = np.full((height, width, 3), 10, np.uint8)
    img[box[1] : box[3], box[0] : box[2]] = (30, 30, 250)
    return img


def info(path, width=600, height=400, box=BOX):
    x1, y1, x2, y2 = box
    polygon = [float(v) for v in (x1, y1, x2, y1, x2, y2, x1, y2)]
    instances = [{'bbox': list(box), 'bbox_label': 3, 'ignore_flag': 0, 'mask': [polygon]}]
    instances.append({'bbox': [1.0, 2.0, 30.5, 40.25], 'bbox_label': 5, 'ignore_flag': 1, 'mask': [polygon]})
    return {'img_path': str(path), 'height': height, 'width': width, 'instances': instances}


@pytest.fixture
def jpeg(tmp_path):
    def write(img, name='image.jpg'):
        assert cv2.imwrite(str(tmp_path / name), img)
        return tmp_path / name

    return write


@pytest.mark.parametrize('with_mask', [False, True])
def test_is_what_mmdet_loads(jpeg, with_mask):
    data = info(jpeg(flat_image()))
    theirs = LoadAnnotations(with_bbox=True, with_mask=with_mask)(LoadImageFromFile()(copy.deepcopy(data)))
    ours = RTMLoadImageAndAnnotations(with_mask=with_mask)(copy.deepcopy(data))
    assert set(ours) == set(theirs)
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    np.testing.assert_array_equal(ours['gt_bboxes'], theirs['gt_bboxes'].numpy())
    assert ours['gt_bboxes'].dtype == np.float32
    for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
        np.testing.assert_array_equal(ours[key], theirs[key])
    assert (ours['img_shape'], ours['ori_shape']) == (theirs['img_shape'], theirs['ori_shape']) == ((400, 600),) * 2
    if with_mask:  # the second object is ignored, so that its mask isn't read
        np.testing.assert_array_equal(ours['gt_masks'].to_ndarray()[0], theirs['gt_masks'].to_ndarray()[0])
        np.testing.assert_array_equal(ours['gt_masks'].boxes(), ours['gt_bboxes'])


@pytest.mark.parametrize(
    ('img_scale', 'part', 'with_mask'),
    [
        *((None, 1, False), ((600, 600), 1, True), ((301, 301), 1, True), ((300, 300), 2, False)),
        *(((151, 300), 2, True), ((150, 101), 4, True), ((20, 20), 8, True)),
    ],
    ids=str,
)
def test_jpeg_is_decoded_no_larger_than_needed(jpeg, colour_box, img_scale, part, with_mask):
    load = RTMLoadImageAndAnnotations(img_scale, with_mask=with_mask)
    out = load(info(jpeg(flat_image())))
    assert out['img'].shape == (400 // part, 600 // part, 3)
    assert out['img_shape'] == out['img'].shape[:2] and out['ori_shape'] == (400, 600)
    if img_scale is not None:
        assert out['img'].shape[1] >= min(img_scale[0], 600) or out['img'].shape[0] >= min(img_scale[1], 400)
    np.testing.assert_allclose(out['gt_bboxes'][0], np.array(BOX) / part)
    np.testing.assert_allclose(out['gt_bboxes'][0], colour_box(out['img'], (30, 30, 250), 100), atol=1)
    if with_mask:
        ys, xs = np.nonzero(out['gt_masks'].to_ndarray()[0])
        np.testing.assert_allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], out['gt_bboxes'][0], atol=1)


def test_masks_that_can_not_be_drawn_are_ignored_and_crowds_are_not_read(jpeg):
    data = info(jpeg(flat_image()))
    good, crowd = data['instances']
    crowd['mask'] = {'size': [400, 600], 'counts': 'damaged'}
    empty = {**good, 'bbox': [0.0, 0.0, 9.0, 9.0], 'mask': [[1.0, 2.0]]}
    data['instances'] += [empty, {key: value for key, value in empty.items() if key != 'mask'}]
    out = RTMLoadImageAndAnnotations(with_mask=True)(data)
    assert out['gt_ignore_flags'].tolist() == [False, True, True, True]
    np.testing.assert_allclose(out['gt_masks'].boxes()[2], (0, 0, 9, 9))


def test_a_damaged_mask_is_a_bad_sample_with_the_name_of_its_file(jpeg):
    data = info(jpeg(flat_image()))
    data['instances'][0]['mask'] = {'size': [400, 600], 'counts': 'damaged'}
    with pytest.raises(BadImageError, match=r"image\.jpg: mask of .* \[120, 80, 360, 280\]: .* 400 x 600 .* 'damaged'"):
        RTMLoadImageAndAnnotations(with_mask=True)(data)
    RTMLoadImageAndAnnotations()(data)


def test_odd_sides_scale_by_the_original_size(jpeg):
    out = RTMLoadImageAndAnnotations((50, 50))(info(jpeg(flat_image(601, 403)), 601, 403, (0, 0, 601, 403)))
    assert out['img'].shape == (51, 76, 3)
    np.testing.assert_allclose(out['gt_bboxes'][0], (0, 0, 76, 51))


def test_png_is_decoded_in_full(jpeg):
    out = RTMLoadImageAndAnnotations((50, 50))(info(jpeg(flat_image(), 'image.png')))
    assert out['img'].shape == (400, 600, 3)


def test_without_a_size_in_the_annotation_the_picture_is_decoded_in_full(jpeg):
    data = info(jpeg(flat_image()))
    del data['height'], data['width']
    assert RTMLoadImageAndAnnotations((50, 50))(data)['img'].shape == (400, 600, 3)


# -- bad input --------------------------------------------------------------------------------------------------------


def cmyk_jpeg():
    image = pytest.importorskip('PIL.Image')
    content = io.BytesIO()
    image.fromarray(flat_image()[..., ::-1]).convert('CMYK').save(content, 'jpeg', quality=95)
    return content.getvalue()


def encoded(img, suffix):
    return cv2.imencode(suffix, img)[1].tobytes()


@pytest.mark.parametrize(
    'content',
    [
        lambda: encoded(flat_image()[..., 2], '.png'),
        lambda: encoded(flat_image()[..., 2], '.jpg'),
        lambda: encoded(flat_image().astype(np.uint16) * 257, '.png'),
        lambda: encoded(np.dstack([flat_image(), np.full((400, 600), 99, np.uint8)]), '.png'),
        cmyk_jpeg,
    ],
    ids=['grey png', 'grey jpeg', '16 bit', 'RGBA', 'CMYK'],
)
def test_other_kinds_of_pixels_become_8_bit_bgr(tmp_path, content, colour_box):
    (tmp_path / 'image').write_bytes(content())
    img = RTMLoadImageAndAnnotations()(info(tmp_path / 'image'))['img']
    assert img.dtype == np.uint8 and img.shape == (400, 600, 3)
    red = (img[..., 2] > 128).astype(np.uint8)  # transparency is dropped, not mixed in
    assert cv2.boundingRect(red) == (120, 80, 240, 200)
    assert img[0, 0].max() < 30


def turned(img, orientation):
    """Return a JPEG with an EXIF tag for its orientation."""
    tag = struct.pack('>HHIHH', 0x0112, 3, 1, orientation, 0)
    exif = b'Exif\0\0MM\0*' + struct.pack('>IH', 8, 1) + tag + b'\0' * 4
    data = encoded(img, '.jpg')
    return data[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize('img_scale', [None, (300, 300)])
@pytest.mark.parametrize('annotated', ['stored', 'turned'])
def test_exif_rotation_follows_the_size_that_is_annotated(tmp_path, colour_box, annotated, img_scale):
    (tmp_path / 'phone.jpg').write_bytes(turned(flat_image(), 6))  # tag: rotate by 90 degrees clockwise
    size, box = ((600, 400), BOX) if annotated == 'stored' else ((400, 600), (120, 120, 320, 360))
    out = RTMLoadImageAndAnnotations(img_scale)(info(tmp_path / 'phone.jpg', *size, box))
    assert out['img'].shape[:2] == tuple(side // (2 if img_scale else 1) for side in size[::-1])
    np.testing.assert_allclose(out['gt_bboxes'][0], colour_box(out['img'], (30, 30, 250), 100), atol=1)


@pytest.mark.parametrize('img_scale', [None, (100, 100)])
def test_one_pixel_height(jpeg, img_scale):
    out = RTMLoadImageAndAnnotations(img_scale)(info(jpeg(flat_image(600, 1)), 600, 1, (0, 0, 600, 1)))
    assert out['img'].shape == ((1, 600, 3) if img_scale is None else (1, 150, 3))


@pytest.mark.parametrize('content', [b'', b'no image', b'\xff\xd8\xff\xe0' + b'0' * 50], ids=['empty', 'text', 'torn'])
def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path, content):
    (tmp_path / 'broken.jpg').write_bytes(content)
    with pytest.raises(ValueError, match=r'broken\.jpg must be .* got \d+ bytes (that are no image|without the end)'):
        RTMLoadImageAndAnnotations((100, 100))(info(tmp_path / 'broken.jpg'))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        RTMLoadImageAndAnnotations()(info(tmp_path / 'gone.jpg'))


@pytest.mark.parametrize('img_scale', [None, (150, 150)])
def test_a_picture_of_another_size_than_annotated_is_refused_with_both(jpeg, img_scale):
    with pytest.raises(ValueError, match=r'image\.jpg must have .* 600x400 .* got 300x200'):
        RTMLoadImageAndAnnotations(img_scale)(info(jpeg(flat_image(300, 200))))


@pytest.mark.parametrize('img_scale', [(640, 0), 640, (640.0, 640), (640, 640, 3), 'ab'], ids=str)
def test_bad_scale_is_refused_with_its_value(img_scale):
    with pytest.raises(ValueError, match='img_scale must be two positive integers') as error:
        RTMLoadImageAndAnnotations(img_scale)
    assert repr(img_scale) in str(error.value)


def test_builds_pickles_and_shows_its_settings():
    load = TRANSFORMS.build({'type': 'RTMLoadImageAndAnnotations', 'img_scale': [64, 48]})
    assert (
        repr(pickle.loads(pickle.dumps(load)))
        == repr(load)
        == ('RTMLoadImageAndAnnotations(img_scale=(64, 48), with_mask=False, backend_args=None)')
    )
