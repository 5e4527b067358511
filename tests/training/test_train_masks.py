"""`rtmdet train --model ins-tiny`: masks of COCO JSON and YOLO, and what is refused in one line."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from labelled_data import HEIGHT, WIDTH, write_coco, write_csv, write_voc, write_yolo
from mmengine.config import Config

from rtmdet_cli.main import main
from rtmdet_plugin.training.formats.find_format import read_dataset

OPTIONS = ('--model', 'ins-tiny', '--weights', 'none')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ['train', *arguments, *OPTIONS])
    assert done.exit_code == code, f'{done.output}\n{done.exception!r}'
    return done.stdout if code == 0 else done.stderr.splitlines()[-1]


def add_masks(root: Path) -> list[Path]:
    """Give each object of a COCO dataset a polygon, its box; return the annotation files."""
    files = sorted(root.rglob('*.json'))
    for file in files:
        content = json.loads(file.read_text())
        for item in content['annotations']:
            x, y, width, height = item['bbox']
            item['segmentation'] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        file.write_text(json.dumps(content))
    return files


def as_polygons(root: Path) -> None:
    """Write the boxes of a YOLO dataset as polygons."""
    for file in root.rglob('*.txt'):
        lines = []
        for line in file.read_text().splitlines():
            name, *values = line.split()
            if len(values) == 4:
                x, y, w, h = map(float, values)
                left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
                values = [left, top, right, top, right, bottom, left, bottom]
            lines.append(' '.join(map(str, [name, *values])))
        file.write_text('\n'.join(lines))


def test_polygons_of_yolo_are_the_masks_of_their_boxes(folder):
    written = write_yolo(folder, 4, 2)
    part = read_dataset(folder).splits['train'].content
    found = [item.get('segmentation') for item in part['annotations']]
    boxes = [(k, box[1:]) for listed in written['train'].values() for k, box in enumerate(listed)]
    assert len(found) == len(boxes)
    for polygons, (k, (x1, y1, x2, y2)) in zip(found, boxes, strict=True):  # the first of each image is a box
        assert polygons == ([pytest.approx([x1, y1, x2, y1, x2, y2, x1, y2], abs=0.01)] if k else None)


@pytest.mark.parametrize('kind', ['coco', 'yolo'])
def test_a_dry_run_writes_a_config_for_masks(kind, folder):
    if kind == 'coco':
        write_coco(folder / 'pets', 8, 4)
        add_masks(folder / 'pets')
    else:
        write_yolo(folder / 'pets', 8, 4)
        as_polygons(folder / 'pets')
    call('pets', '--patience', '3', '--dry-run')
    config = Config.fromfile('work_dirs/pets_1/input/pets_1.py')
    assert config.model.bbox_head.type == 'RTMInsSepBNHead' and config.model.bbox_head.num_classes == 2
    assert config.default_hooks.checkpoint.save_best == config.custom_hooks[-1].monitor == 'coco/segm_mAP'
    assert config.val_evaluator.metric == ['bbox', 'segm']
    assert config.train_dataloader.dataset.pipeline[0].with_mask
    content = json.loads(Path(config.train_dataloader.dataset.ann_file).read_text())
    assert all(item['segmentation'] for item in content['annotations'])


@pytest.mark.parametrize('kind', ['voc', 'csv', 'coco'])
def test_data_without_masks_is_refused_in_one_line(kind, folder):
    dict(voc=write_voc, csv=write_csv, coco=write_coco)[kind](folder / 'pets', 8, 4)
    error = call('pets', code=1)
    assert re.match(
        r'Error: pets\S* \(.*\) must have objects with masks to train ins-tiny, got only 12 that have no segmentation; '
        r'write masks as COCO JSON or as polygons of YOLO, or train boxes with --model tiny$',
        error,
    )
    assert not Path('work_dirs').exists()


def test_objects_to_validate_on_must_have_masks(folder):
    write_coco(folder / 'pets', 8, 4)
    file = next(file for file in add_masks(folder / 'pets') if file.parent.name == 'valid')
    content = json.loads(file.read_text())
    del content['annotations'][0]['segmentation']
    content['annotations'][1]['segmentation'] = dict(
        size=[WIDTH, HEIGHT], counts=[WIDTH * HEIGHT]
    )  # must be height, width
    file.write_text(json.dumps(content))
    error = call('pets', code=1)
    assert "pets, val: every object must have a mask for metric 'segm', got 1 that have no segmentation" in error
    assert '1 that have a run-length code of another size' in error and not Path('work_dirs').exists()


def test_a_short_training(folder, monkeypatch):
    monkeypatch.setattr('rtmdet_plugin.training.train.report_training', lambda folder: None)
    write_yolo(folder / 'pets', 8, 4)
    as_polygons(folder / 'pets')
    small = [
        *('model.backbone.widen_factor=0.125', 'model.neck.in_channels=[32,64,128]', 'model.neck.out_channels=32'),
        *('model.bbox_head.in_channels=32', 'model.bbox_head.feat_channels=32'),
    ]
    changes = [word for change in small for word in ('--set', change)]
    printed = call('pets', '--epochs', '1', '--imgsz', '64', '--batch', '4', '--workers', '0', *changes)
    assert 'best_coco_segm_mAP_epoch_1.pth' in printed
