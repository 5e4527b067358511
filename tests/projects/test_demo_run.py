"""The demo from end to end, much shortened: both stages, test, pictures, table, and how it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import run

ROOT = Path(__file__).resolve().parents[2]
SHORT = ['train_cfg.max_epochs=2', 'default_hooks.pipeline_switch.num_last_epochs=1']


@pytest.fixture
def demo(monkeypatch):
    """A function that runs the demo in this process, with `mim` in others, and returns what it ends with."""
    for name, value in dict(RTMDET_DEMO_DATA='', OMP_NUM_THREADS='1', COLUMNS='200').items():
        monkeypatch.setenv(name, value)
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    monkeypatch.setenv('PYTHONPATH', path)

    def call(work_dir: Path, *arguments: str) -> str:
        monkeypatch.setattr(sys, 'argv', ['run.py', '--work-dir', str(work_dir), '--train=16', '--val=4', *arguments])
        with pytest.raises(SystemExit) as ended:
            run.main()
        return str(ended.value)

    return call


def test_demo_in_short(demo, tmp_path, capsys):
    stale = tmp_path / 'train' / 'best_coco_bbox_mAP_epoch_99.pth'  # of an earlier run
    stale.parent.mkdir()
    stale.touch()
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'settings.json').write_text('{}')
    (tmp_path / 'mine.png').touch()
    # All of it ran, so the only complaint is the AP.
    assert demo(tmp_path, '--min-ap50=1.01', '--cfg-options', *SHORT).endswith('on the held-out images is below 1.01')
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


def test_failing_training_is_one_line_with_the_log(demo, tmp_path):
    assert demo(tmp_path, '--cfg-options', 'model.backbone.arch=P4').startswith('demo: `mim train` failed')
    assert 'P4' in (tmp_path / 'train.log').read_text()
    assert [path.name for path in tmp_path.glob('*.png')] == ['predictions_of_shipped_weights.png']


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'epoch_300.pth').touch()
    command = [sys.executable, 'projects/demo/run.py', '--work-dir', str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and '--work-dir must be a new or empty folder or an earlier demo' in done.stderr
    assert (tmp_path / 'train' / 'epoch_300.pth').exists()
