"""A finished run on generated images, whose class, image and folder have unusual names, with its report."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from samples import write_shapes
from training_run import steps, validation, write_session

from rtmdet_cli.main import main
from rtmdet_plugin.report.run_files import save_prepared

CLASSES = (
    '<script>alert(1)</script>',
    "žluť 🐈 $x_1$ {{ 1 }} & 'a\"b'",
    '</style><img src=x onerror=alert(2)>',
    'cross',
)
IMAGE = '"><img src=x onerror=alert(3)> 図.png'
LOG = """2026/01/01 10:00:00 - mmengine - INFO - begin
2026/01/01 10:00:01 - mmengine - WARNING - <script>alert(4)</script>
2026/01/01 10:00:02 - mmengine - WARNING - Bad sample: <b>.jpg: cut off
2026/01/01 11:05:00 - mmengine - INFO - end
"""


@pytest.fixture(scope='session')
def finished_run(tmp_path_factory, shapes_config, shapes_model) -> Path:
    """Work directory of a run of two epochs."""
    root = tmp_path_factory.mktemp('<run> ü')
    write_shapes(root / 'data', train=6, val=6)
    for split in ('train', 'val'):
        file = root / 'data' / f'{split}.json'
        content = json.loads(file.read_text())
        for category, name in zip(content['categories'], CLASSES, strict=True):
            category['name'] = name
        for image in content['images'][:1]:
            (root / 'data' / split / image['file_name']).rename(root / 'data' / split / IMAGE)
            image['file_name'] = IMAGE
        file.write_text(json.dumps(content))
    work_dir = root / '<i>run'
    config = shapes_config(dict(data_root=f'{root}/data/'))
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset.data_root = f'{root}/data/'
    write_session(work_dir, '20260101_100000', config, [*steps(1, 2), validation(1, 0.3), validation(2, 0.5)], LOG)
    save_prepared(
        work_dir, ['Data: <script>alert(5)</script>', 'Skipped: b.jpg: empty'], dict(batch=(8, '<b>usual</b>'))
    )
    content = dict(state_dict=shapes_model.state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES)))
    torch.save(content, work_dir / 'best_coco_bbox_mAP_epoch_2.pth')
    return work_dir


@pytest.fixture(scope='session')
def report(finished_run) -> str:
    """The report of `finished_run`, which `rtmdet report` has written."""
    done = CliRunner().invoke(main, ['report', str(finished_run)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f'{finished_run / "report.html"}\n'
    return (finished_run / 'report.html').read_text()


@pytest.fixture
def copied_run(finished_run, tmp_path) -> Path:
    """A copy of `finished_run` without its report."""
    return Path(shutil.copytree(finished_run, tmp_path / 'run', ignore=shutil.ignore_patterns('report.html')))
