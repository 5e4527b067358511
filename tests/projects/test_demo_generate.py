"""The images of projects/demo: the same for a seed, labelled to the pixel, all-or-nothing on disk."""

import json

import cv2
import generate
import numpy as np
import pytest
from generate import CLASSES, CORNERS, SPLITS, Settings, draw, polygons, visible_boxes
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

SMALL = Settings(train=12, val=5)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('demo') / 'data'
    assert generate.generate(path, SMALL)
    return path


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_same_seed_same_bytes_and_another_seed_others(folder, tmp_path):
    generate.generate(tmp_path / 'again', SMALL)
    assert files(tmp_path / 'again') == files(folder)
    generate.generate(tmp_path / 'other', Settings(train=12, val=5, seed=1))
    assert (
        files(tmp_path / 'other')[generate.Path('train/000000.jpg')] != files(folder)[generate.Path('train/000000.jpg')]
    )


def test_longer_data_set_begins_with_the_shorter(folder, tmp_path):
    generate.generate(tmp_path / 'longer', Settings(train=14, val=5))
    longer = files(tmp_path / 'longer')
    assert all(longer[name] == content for name, content in files(folder).items() if name.suffix == '.jpg')


@pytest.mark.parametrize('split', SPLITS)
def test_coco_file_is_valid(folder, split, capsys):
    coco = COCO(str(folder / f'{split}.json'))
    assert [category['name'] for category in coco.dataset['categories']] == list(CLASSES)
    assert len(coco.imgs) == getattr(SMALL, split)
    assert len(coco.anns) == len(coco.dataset['annotations'])  # ids are unique
    for image in coco.dataset['images']:
        picture = cv2.imread(str(folder / split / image['file_name']))
        assert picture.shape == (image['height'], image['width'], 3)
    for annotation in coco.dataset['annotations']:
        x, y, width, height = annotation['bbox']
        assert x >= 0 and y >= 0 and x + width <= SMALL.size and y + height <= SMALL.size
        assert 0 < annotation['area'] <= width * height
        assert annotation['category_id'] in coco.cats and annotation['image_id'] in coco.imgs


def test_boxes_are_the_extent_of_visible_pixels():
    _, ids, labels = draw(np.random.default_rng(3), SMALL)
    boxes = visible_boxes(ids)
    assert len(boxes) == len(labels) > 1
    for n, (x, y, width, height) in enumerate(boxes, start=1):
        inside = ids[y : y + height, x : x + width] == n
        assert inside.sum() == (ids == n).sum()  # nothing outside
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()  # tight


def test_a_shape_stands_out_of_its_surroundings(folder):
    annotations = json.loads((folder / 'train.json').read_text())['annotations']
    for annotation in annotations[:20]:
        rng = np.random.default_rng((SMALL.seed, 0, annotation['image_id']))
        picture, ids, _ = draw(rng, SMALL)
        written = cv2.imread(str(folder / 'train' / f'{annotation["image_id"]:06d}.jpg'))
        assert np.abs(written.astype(int) - picture).mean() < 8  # what was labelled is what was written
        index = 1 + sum(
            other['image_id'] == annotation['image_id'] and other['id'] < annotation['id'] for other in annotations
        )
        x, y, width, height = annotation['bbox']
        assert np.array_equal(visible_boxes(ids)[index - 1], [x, y, width, height])
        assert (ids == index).sum() == annotation['area']
        assert np.array_equal(drawn(annotation['segmentation'], SMALL.size), ids == index)


def drawn(segmentation, size):
    """Draw polygons as COCO's evaluation does."""
    return mask_api.decode(mask_api.merge(mask_api.frPyObjects(segmentation, size, size))).astype(bool)


def test_polygons_contain_exactly_the_pixels_of_a_mask_with_holes_and_parts():
    noise = np.random.default_rng(0).random((7, 7))
    mask = cv2.resize(noise, (50, 50)) > 0.5
    mask[10:13, 10:13] = True
    mask[11, 11] = False  # the smallest hole
    contours, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    assert len(contours) > 3 and (tree[0, :, 3] >= 0).any()
    assert np.array_equal(drawn(polygons(mask), 50), mask)


def test_variety():
    """Empty images, overlaps, small and large shapes, every class."""
    drawn = [draw(np.random.default_rng((0, 0, n)), Settings()) for n in range(120)]
    assert any(not labels for _, _, labels in drawn)
    assert {label for _, _, labels in drawn for label in labels} == set(range(len(CLASSES)))
    sizes = [max(box[2:]) for _, ids, _ in drawn for box in visible_boxes(ids)]
    assert min(sizes) < 32 and max(sizes) > 64
    boxes = [visible_boxes(ids) for _, ids, _ in drawn]
    assert any(
        a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
        for found in boxes
        for n, a in enumerate(found)
        for b in found[:n]
    )


def test_shapes_lie_within_the_unit_circle():
    assert set(CORNERS) == set(CLASSES)
    for name, corners in CORNERS.items():
        radius = np.linalg.norm(corners, axis=1).max()
        assert 0.95 < radius < 1.02, name


def test_second_call_keeps_the_data_and_other_settings_replace_it(tmp_path):
    path = tmp_path / 'data'
    assert generate.generate(path, SMALL)
    assert not generate.generate(path, SMALL)
    fewer = Settings(train=3, val=5)
    assert generate.generate(path, fewer)
    assert len(list((path / 'train').iterdir())) == 3


def test_each_class_has_its_colour():
    hues = dict.fromkeys(range(len(CLASSES)), ())
    for n in range(40):
        image, ids, labels = draw(np.random.default_rng((0, 0, n)), Settings())
        hue = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[..., 0].astype(int)
        for index, label in enumerate(labels, start=1):
            hues[label] += (np.median((hue[ids == index] - generate.HUES[label] + 90) % 180 - 90),)
    assert all(np.abs(found).max() < 15 for found in hues.values())


def test_interrupted_call_leaves_nothing_that_counts(tmp_path, monkeypatch):
    def interrupted(folder, split, settings):
        if split == 'val':
            raise KeyboardInterrupt
        write_split(folder, split, settings)

    write_split = generate.write_split
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(generate, 'write_split', interrupted)
        generate.generate(tmp_path / 'data', SMALL)
    assert not (tmp_path / 'data').exists()
    assert generate.generate(tmp_path / 'data', SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['data']


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('three years')
    with pytest.raises(ValueError, match='must be new, empty or a dataset of this generator'):
        generate.generate(tmp_path, SMALL)
    assert (tmp_path / 'thesis.txt').exists()
