"""The demo from end to end, much shortened: both stages, test, pictures, table, and how it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import run

ROOT = Path(__file__).resolve().parents[2]
SHORT = ['train_cfg.max_epochs=2', 'default_hooks.pipeline_switch.num_last_epochs=1']


def test_demo_in_short(tmp_path, monkeypatch, capsys):
    """In this process, with `mim` in others."""
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    for name, value in dict(RTMDET_DEMO_DATA='', OMP_NUM_THREADS='1', COLUMNS='200', PYTHONPATH=path).items():
        monkeypatch.setenv(name, value)
    arguments = ['--train=16', '--val=4', '--min-ap50=1.01', '--cfg-options', *SHORT]
    monkeypatch.setattr(sys, 'argv', ['run.py', '--work-dir', str(tmp_path), *arguments])
    stale = tmp_path / 'train' / 'best_coco_bbox_mAP_epoch_99.pth'  # of an earlier run
    stale.parent.mkdir()
    stale.touch()
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'settings.json').write_text('{}')
    (tmp_path / 'mine.png').touch()
    with pytest.raises(SystemExit, match='on the held-out images is below 1.01$'):  # all of it ran
        run.main()
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
    output = capsys.readouterr().out
    assert output.index('predictions_of_shipped_weights.png') < output.index('Epoch(train)')
    assert 'Stage 2 (epochs 2 to 2)' in output
    assert 'Average Precision' in output  # the evaluator's own lines
    assert 'AP50' in output and 'predictions.png' in output


def test_failing_training_is_one_line_with_the_log(tmp_path):
    log = tmp_path / 'train.log'
    with pytest.raises(SystemExit, match=f'^demo: `mim train` failed; .* at the end of {log}$'):
        run.call(['train', 'mmdet', str(tmp_path / 'none.py')], log)
    assert 'none.py' in log.read_text()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'epoch_300.pth').touch()
    command = [sys.executable, 'projects/demo/run.py', '--work-dir', str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and '--work-dir must be a new or empty folder or an earlier demo' in done.stderr
    assert (tmp_path / 'train' / 'epoch_300.pth').exists()
