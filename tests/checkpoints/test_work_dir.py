"""The config and the checkpoint of a work directory."""

import os
import shutil

import pytest
import torch

from rtmdet_plugin.checkpoints.work_dir import best_or_last, config_of_work_dir, is_work_dir


@pytest.fixture
def work(tmp_path):
    """A work directory with a last checkpoint."""
    torch.save(dict(state_dict={}), tmp_path / 'epoch_9.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_9.pth'))
    return tmp_path


def test_the_newest_best_checkpoint_that_is_not_damaged(work):
    assert best_or_last(work) == work / 'epoch_9.pth'
    for time, name in enumerate(('best_b.pth', 'best_a.pth', 'best_c.pth')):
        shutil.copy(work / 'epoch_9.pth', work / name)
        os.utime(work / name, (time, time))
    assert best_or_last(work) == work / 'best_c.pth'
    (work / 'best_c.pth').write_bytes(b'damaged')
    assert best_or_last(work) == work / 'best_a.pth'


def test_no_checkpoint(tmp_path):
    assert not is_work_dir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'must have a checkpoint \(best_\*.pth, epoch_\*.pth\), got none'):
        best_or_last(tmp_path)


def test_what_is_a_work_directory(work):
    assert is_work_dir(work)
    (work / 'last_checkpoint').unlink()
    assert not is_work_dir(work)
    (work / 'best_a.pth').touch()
    assert is_work_dir(work)


def test_its_config(work):
    with pytest.raises(FileNotFoundError, match='must be the work directory of a training, .* got no file'):
        config_of_work_dir(work)
    (work / 'a.py').touch()
    assert config_of_work_dir(work) == work / 'a.py'
    (work / 'b.py').touch()
    with pytest.raises(ValueError, match=r'must have one config, got a\.py, b\.py; choose one with --config'):
        config_of_work_dir(work)
