"""The demo from end to end, much shortened: both stages, test, pictures, table, and how it fails."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHORT = ['train_cfg.max_epochs=2', 'default_hooks.pipeline_switch.num_last_epochs=1']


def demo(work_dir, *arguments):
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    return subprocess.run(
        [sys.executable, 'projects/demo/run.py', '--work-dir', str(work_dir), '--train=16', '--val=4', *arguments],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', 'COLUMNS': '200'},
        capture_output=True,
        text=True,
    )


def test_demo_in_short(tmp_path):
    stale = tmp_path / 'train' / 'best_coco_bbox_mAP_epoch_99.pth'  # of an earlier run
    stale.parent.mkdir()
    stale.touch()
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'settings.json').write_text('{}')
    (tmp_path / 'mine.png').touch()
    done = demo(tmp_path, '--min-ap50=1.01', '--cfg-options', *SHORT)
    # All of it ran, so the only complaint is the AP.
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().splitlines()[-1].endswith('on the held-out images is below 1.01')
    for name in (
        'predictions_of_shipped_weights.png',
        'predictions.png',
        'curves.png',
        'train.log',
        'test.log',
        'data/val.json',
    ):
        assert (tmp_path / name).stat().st_size > 0
    assert not stale.exists() and (tmp_path / 'mine.png').exists()
    assert done.stdout.index('predictions_of_shipped_weights.png') < done.stdout.index('Epoch(train)')
    assert 'Stage 2 (epochs 2 to 2)' in done.stdout
    assert 'Average Precision' in done.stdout  # the evaluator's own lines
    assert 'AP50' in done.stdout and 'predictions.png' in done.stdout


def test_failing_training_is_one_line_with_the_log(tmp_path):
    done = demo(tmp_path, '--cfg-options', 'model.backbone.arch=P4')
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('demo: `mim train` failed')
    assert 'P4' in (tmp_path / 'train.log').read_text()
    assert [path.name for path in tmp_path.glob('*.png')] == ['predictions_of_shipped_weights.png']


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'epoch_300.pth').touch()
    done = demo(tmp_path)
    assert done.returncode == 1 and '--work-dir must be a new or empty folder or an earlier demo' in done.stderr
    assert (tmp_path / 'train' / 'epoch_300.pth').exists()
