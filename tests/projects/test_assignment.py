"""The picture of the assignment: the drawing and what it is drawn from."""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from click.testing import CliRunner
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location('draw', ROOT / 'projects' / 'assignment' / 'draw.py')
drawing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drawing)


def test_draws_objects_where_they_are_in_the_resized_picture(tmp_path):
    """One square of a wide picture; a random head still gives it priors, all of them inside."""
    picture = np.full((200, 400, 3), 90, dtype=np.uint8)
    picture[50:150, 200:300] = 255
    cv2.imwrite(str(tmp_path / '0.png'), picture)
    annotation = dict(id=1, image_id=1, category_id=1, bbox=[200, 50, 100, 100], area=10_000, iscrowd=0)
    image = dict(id=1, file_name='0.png', width=400, height=200)
    content = dict(images=[image], annotations=[annotation], categories=[dict(id=1, name='square')])
    (tmp_path / 'boxes.json').write_text(json.dumps(content))
    config = tmp_path / 'config.py'
    config.write_text(
        f"""
_base_ = '{ROOT}/configs/rtmdet_nano_person.py'
data = dict(data_root='{tmp_path}/', ann_file='boxes.json', data_prefix=dict(img=''))
data.update(metainfo=dict(classes=('square',)))
val_dataloader = dict(dataset=data)
"""
    )
    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'random.pth')

    out = tmp_path / 'assignment.png'
    arguments = [str(config), str(tmp_path / 'random.pth'), '--out', str(out)]
    done = CliRunner().invoke(drawing.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert '1 objects, 0 of them without a positive prior' in done.output
    assert cv2.imread(str(out)) is not None

    dataset = drawing.DATASETS.build(drawing.with_boxes_resized(cfg.val_dataloader.dataset))
    found = drawing.assign(model.eval(), dataset[0])
    np.testing.assert_allclose(found['boxes'], [[160, 40, 240, 120]])  # 400 px wide -> 320
    x1, y1, x2, y2 = found['boxes'][0].astype(int)
    assert (found['image'][y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == 255).all(), 'the box lies on the square'
    x, y = found['priors'][found['gt_index'] == 0, :2].T
    assert len(x) > 0 and (x > x1).all() and (x < x2).all() and (y > y1).all() and (y < y2).all()

    wrong = CliRunner().invoke(drawing.main, [*arguments, '--index', '7'])
    assert wrong.exit_code == 2 and '--index must be from 0 to 0, got 7' in wrong.output
