"""A trained detector and images with objects: the demo's weights and generated shapes.

The fixtures `shapes...` of conftest.py use them.
"""

import json
from itertools import cycle
from pathlib import Path

import cv2
import pytest
from generate import CLASSES as CLASSES  # noqa: PLC0414  tests take the names from here
from generate import Settings, generate

ROOT = Path(__file__).resolve().parents[1]
SHAPES_CONFIG = ROOT / 'projects' / 'demo' / 'rtmdet_demo.py'
SHAPES_WEIGHTS = SHAPES_CONFIG.with_suffix('.safetensors')

# Scale of an image, and the columns and rows added to it: the detector's input is 128x128 pixels, so most images are
# resized and padded for it, and their boxes are scaled back.
CHANGES = ((1, 0, 0), (1.5, 60, 0), (0.75, 0, 24), (1.25, 0, 37), (1, 31, 0), (2, 0, 0))


def write_shapes(folder: Path, train: int = 12, val: int = 24) -> None:
    """Write the demo's dataset with few images; the validation images have several sizes."""
    generate(folder, Settings(train=train, val=val))
    labels = json.loads((folder / 'val.json').read_text())
    scales = {}
    for image, (scale, columns, rows) in zip(labels['images'], cycle(CHANGES), strict=False):
        path = str(folder / 'val' / image['file_name'])
        pixels = cv2.resize(cv2.imread(path), None, fx=scale, fy=scale)
        pixels = cv2.copyMakeBorder(pixels, 0, rows, 0, columns, cv2.BORDER_CONSTANT, value=(128, 128, 128))
        cv2.imwrite(path, pixels)
        image['height'], image['width'] = pixels.shape[:2]
        scales[image['id']] = scale
    for annotation in labels['annotations']:
        scale = scales[annotation['image_id']]
        annotation['bbox'] = [scale * value for value in annotation['bbox']]
        annotation['area'] *= scale**2
    (folder / 'val.json').write_text(json.dumps(labels))


def assert_same_ap(found: dict[str, float], expected: dict[str, float]) -> None:
    """Compare the metrics of two backends on `shapes`.

    There are about 17 shapes per class in 24 images. If rounding moves a box across one of the ten IoU thresholds, AP
    changes by 0.002, and AP at one threshold or of one size by up to 0.02. Processors round differently, so up to two
    boxes may move.
    """
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.005 if name == 'coco/bbox_mAP' else 0.04), name
