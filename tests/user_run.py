"""Write the smallest input of a user's run: images, a COCO file, and a config that inherits from ours."""

import json
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
SIZE = 64  # pixels
# A user's config: a few lines that inherit from ours, here with small values.
USER_CONFIG = """
_base_ = '{configs}/rtmdet_nano.py'

from rtmdet_plugin import set_input_size

set_input_size(_base_, {size})
data_root = '{data_root}/'
model = dict(bbox_head=dict(num_classes=2))
dataset = dict(data_root=data_root, ann_file='boxes.json', data_prefix=dict(img='img/'))
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dataset)
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'boxes.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(pipeline_switch=dict(num_last_epochs=1), checkpoint=dict(interval=1),
                     logger=dict(interval=1))
randomness = dict(seed=0)
"""


def write_user_data(root: Path) -> Path:
    """Write sixteen images with one or two rectangles on grey, in two classes by colour, and `config.py` to `root`."""
    (root / 'img').mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(16):
        image = np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)
        for k in range(1 + i % 2):
            x, y = rng.integers(0, SIZE // 2, 2).tolist()
            w, h = rng.integers(SIZE // 4, SIZE // 2, 2).tolist()
            category = int(rng.integers(1, 3))
            image[y : y + h, x : x + w] = (255, 0, 0) if category == 1 else (0, 0, 255)
            annotations.append(
                dict(id=10 * i + k + 1, image_id=i, category_id=category, bbox=[x, y, w, h], area=w * h, iscrowd=0)
            )
        cv2.imwrite(str(root / 'img' / f'{i}.png'), image)
        images.append(dict(id=i, file_name=f'{i}.png', width=SIZE, height=SIZE))
    categories = [dict(id=1, name='blue'), dict(id=2, name='red')]
    (root / 'boxes.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    (root / 'config.py').write_text(USER_CONFIG.format(configs=CONFIGS, data_root=root, size=SIZE))
    return root
