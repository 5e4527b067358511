"""The pictures of a run: PNGs of a sensible size, from records and a checkpoint as mmengine writes them."""

import json
import os
from pathlib import Path

import cv2
import generate
import pytest
import report
import torch
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]

CONFIG = ROOT / 'projects' / 'demo' / 'rtmdet_demo.py'


@pytest.fixture
def work_dir(tmp_path):
    """What a run of two epochs leaves, records only."""
    folder = tmp_path / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    records = []
    for step in range(1, 13):
        records.append(
            dict(loss=2 / step, loss_cls=1 / step, loss_bbox=1 / step, iter=step, epoch=(step + 5) // 6, step=step)
        )
        if step % 6 == 0:
            records.append({report.AP: step / 100, report.AP50: step / 50, 'step': step // 6})
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(record) for record in records))
    return tmp_path


def size(path):
    height, width, _ = cv2.imread(str(path)).shape
    return width, height


def test_records_of_the_latest_run(work_dir):
    older = work_dir / '20250101_000000' / 'vis_data'
    older.mkdir(parents=True)
    (older / 'scalars.json').write_text('')
    train, val = report.read_scalars(work_dir)
    assert len(train) == 12 and [record['step'] for record in val] == [1, 2]


def test_curves(work_dir):
    report.draw_curves(*report.read_scalars(work_dir), 1, work_dir / 'curves.png')
    assert size(work_dir / 'curves.png')[0] > 1000


def test_best_checkpoint_comes_before_the_last_one(tmp_path):
    with pytest.raises(FileNotFoundError, match='neither best'):
        report.find_checkpoint(tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    assert report.find_checkpoint(tmp_path) == tmp_path / 'epoch_2.pth'
    for epoch, time in ((10, 2), (9, 1)):
        path = tmp_path / f'best_coco_bbox_mAP_epoch_{epoch}.pth'
        path.touch()
        os.utime(path, (time, time))
    assert report.find_checkpoint(tmp_path).name == 'best_coco_bbox_mAP_epoch_10.pth'


def test_nothing_to_report_is_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match='scalars.json; the run may'):
        report.read_scalars(tmp_path)


@pytest.mark.parametrize('count, rows', [(1, 1), (5, 3)])
def test_predictions_beside_ground_truth(tmp_path, monkeypatch, count, rows):
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    generate.generate(tmp_path / 'data', generate.Settings(train=1, val=5))
    monkeypatch.setenv('RTMDET_DEMO_DATA', str(tmp_path / 'data'))
    config = Config.fromfile(CONFIG)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.bbox_head.rtm_cls[0].bias.data.fill_(-0.5)  # scores about 0.38: some boxes are drawn
    meta = dict(dataset_meta=dict(classes=generate.CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'best_test.pth')
    path = tmp_path / 'predictions.png'
    report.draw_predictions(config, tmp_path / 'best_test.pth', path, count=count)
    width, height = size(path)
    assert width > 1000 and height > rows * 250
