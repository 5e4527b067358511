"""Tiny COCO datasets on disk."""

import json

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

# Ids have gaps, start at 0, and are unordered in the file.
CATEGORIES = [{'id': 7, 'name': 'disc'}, {'id': 0, 'name': 'square'}, {'id': 3, 'name': 'bar'}]


def tiny_content(num_images=6, size=(80, 60)):
    """Return a COCO dict: `num_images` images of `size` (w, h), 2 objects each; every category is used."""
    width, height = size
    images, annotations = [], []
    for i in range(num_images):
        images.append({'id': 100 - i, 'file_name': f'{i}.png', 'width': width, 'height': height})
        for k in range(2):
            x, y, w, h = 5 + 3 * i + 20 * k, 4 + 5 * i, 15 + i, 12 + 2 * k
            annotations.append(
                {
                    'id': 10 * i + k + 1,
                    'image_id': 100 - i,
                    'category_id': CATEGORIES[(i + k) % 3]['id'],
                    'bbox': [x, y, w, h],
                    'area': w * h,
                    'iscrowd': 0,
                }
            )
    return {'images': images, 'annotations': annotations, 'categories': CATEGORIES}


@pytest.fixture
def content():
    return tiny_content()


@pytest.fixture
def write(tmp_path):
    """Write a dict (or text) as an annotation file, and images if asked to; return the dataset's arguments."""

    def write_files(content, name='ann.json', pictures=False):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        if pictures:
            (tmp_path / 'images').mkdir(exist_ok=True)
            rng = np.random.default_rng(0)
            for image in content['images']:
                pixels = rng.integers(0, 256, (image['height'], image['width'], 3), dtype=np.uint8)
                cv2.imwrite(str(tmp_path / 'images' / image['file_name']), pixels)
        return {'data_root': str(tmp_path), 'ann_file': name, 'data_prefix': {'img': 'images/'}}

    return write_files


@pytest.fixture(autouse=True)
def mmdet_scope():
    """Set the scope as a config's default_scope does: mmengine's wrappers and loaders look names up in mmdet."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield
