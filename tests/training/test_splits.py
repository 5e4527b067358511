"""A validation split is made if there is none: seeded, and without separating images that look alike."""

import shutil

import cv2
import numpy as np
import pytest
from labelled_data import write_coco, write_csv

from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.training.formats.find_format import read_dataset
from rtmdet_plugin.training.similar_images import similar_groups
from rtmdet_plugin.training.splits import choose, with_validation


def names(dataset, split):
    return {image['file_name'] for image in dataset.splits[split].content['images']}


def test_a_fifth_of_the_images_is_taken_and_the_seed_decides_which(tmp_path):
    write_csv(tmp_path, 20)
    dataset = read_dataset(tmp_path)
    first, again, other = (with_validation(dataset, 0.2, seed) for seed in (0, 0, 1))
    assert len(names(first, 'val')) == 4 and len(names(first, 'train')) == 16
    assert names(first, 'val').isdisjoint(names(first, 'train'))
    assert names(first, 'val') == names(again, 'val') != names(other, 'val')
    for part in first.splits.values():
        ids = {image['id'] for image in part.content['images']}
        assert {item['image_id'] for item in part.content['annotations']} == ids
    assert '4 of 20 images' in first.notes[-1]


def test_an_existing_split_is_kept(tmp_path):
    write_coco(tmp_path, 4, 2)
    dataset = read_dataset(tmp_path)
    assert with_validation(dataset, None, 0) is dataset
    ignored = with_validation(dataset, 0.5, 0)
    assert ignored.splits is dataset.splits and 'val-fraction=0.5 has no effect' in ignored.notes[-1]


def test_copies_of_an_image_are_one_group(tmp_path):
    """Resized, recompressed and Roboflow's copies; a moved object makes another image."""
    rng = np.random.default_rng(0)
    images = [cv2.resize(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8), (320, 240)) for _ in range(3)]
    paths = [tmp_path / f'{i}.png' for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    small, low, moved = tmp_path / 'small.png', tmp_path / 'low.jpg', tmp_path / 'moved.png'
    cv2.imwrite(str(small), cv2.resize(images[0], (160, 120), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(low), images[1], [cv2.IMWRITE_JPEG_QUALITY, 40])
    cv2.rectangle(images[2], (40, 40), (120, 120), (255, 255, 255), -1)
    cv2.imwrite(str(moved), images[2])
    copies = [tmp_path / f'car_jpg.rf.{code}.jpg' for code in ('1a', '2b')]
    for copy, path in zip(copies, paths, strict=False):
        shutil.copy(path, copy)
    groups = similar_groups([*paths, small, low, moved], [240] * 6).tolist()
    assert groups == [0, 1, 2, 0, 1, 3]
    assert len(set(similar_groups([paths[2], *copies, tmp_path / 'missing.png'], [240] * 4).tolist())) == 3


def test_groups_are_not_separated():
    groups = [0, 0, 0, 1, 2, 2, 3, 4, 5, 5]
    for seed in range(20):
        chosen = choose(groups, 3, seed)
        assert 1 <= len(chosen) <= 3
        assert all({place for place, g in enumerate(groups) if g == groups[c]} <= chosen for c in chosen)
    assert choose([0, 0, 0, 1, 1], 1, 0) == {3, 4}, 'the smallest, if none fits'
    assert len(choose([0] * 10, 2, 0)) == 2, 'a single group is separated'


@pytest.mark.parametrize('fraction', [0, 1, 1.5])
def test_the_fraction_must_leave_both_splits(fraction, tmp_path):
    write_csv(tmp_path, 4)
    with pytest.raises(RefusedError, match='val-fraction must be between 0 and 1, got'):
        with_validation(read_dataset(tmp_path), fraction, 0)
