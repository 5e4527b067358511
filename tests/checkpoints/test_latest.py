"""Which checkpoint `--resume` loads."""

import logging
import os

import pytest
import torch
from mmengine.logging import MMLogger

from rtmdet_plugin.checkpoints.latest import damage, latest_usable, point_to
from rtmdet_plugin.errors import RefusedError


@pytest.fixture
def run(tmp_path):
    """Checkpoints of three epochs, the third named by `last_checkpoint`; the files' ages are in that order."""
    for epoch in (1, 2, 3):
        path = tmp_path / f'epoch_{epoch}.pth'
        torch.save(dict(epoch=epoch, weights=torch.zeros(1000)), path)
        os.utime(path, (1000 + epoch, 1000 + epoch))
    point_to(tmp_path, tmp_path / 'epoch_3.pth')
    return tmp_path


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        yield caplog
    logger.removeHandler(caplog.handler)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def alter(path):
    """Flip one bit within a tensor: torch loads such a file without an error."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)


def page(path):
    path.write_bytes(b'<!DOCTYPE html>')


def empty(path):
    path.write_bytes(b'')


def archive(path):
    path.write_bytes(b'PK\x05\x06' + bytes(18))  # a zip file without content


def gone(path):
    path.unlink()


def test_the_last_one(run, log):
    assert latest_usable(run) == str(run / 'epoch_3.pth')
    assert not log.text


@pytest.mark.parametrize('damaging', [cut, alter, page, empty, archive, gone], ids=lambda function: function.__name__)
def test_a_damaged_one_is_named_and_left_out(run, log, damaging):
    damaging(run / 'epoch_3.pth')
    assert latest_usable(run) == str(run / 'epoch_2.pth')
    assert str(run / 'epoch_3.pth') in log.text and 'Skipped the damaged checkpoint' in log.text
    cut(run / 'epoch_2.pth')
    assert latest_usable(run) == str(run / 'epoch_1.pth')


def test_last_checkpoint_goes_before_age(run):
    """For example after a second run in the same folder, whose epochs have smaller numbers than the first run's."""
    point_to(run, run / 'epoch_1.pth')
    assert latest_usable(run) == str(run / 'epoch_1.pth')


def test_without_last_checkpoint_the_newest_counts(run):
    (run / 'last_checkpoint').unlink()
    assert latest_usable(run) == str(run / 'epoch_3.pth')
    os.utime(run / 'epoch_2.pth', (2000, 2000))
    assert latest_usable(run) == str(run / 'epoch_2.pth')
    torch.save({}, run / 'interrupted.pth')
    assert latest_usable(run) == str(run / 'interrupted.pth')
    (run / 'last_checkpoint').write_text('')  # as mmengine's own hook leaves it if it is killed
    assert latest_usable(run) == str(run / 'interrupted.pth')


def test_best_and_published_files_are_no_states_of_training(run):
    (run / 'last_checkpoint').unlink()
    for name in ('best_coco_bbox_mAP_epoch_3.pth', 'model.pth'):
        torch.save({}, run / name)
    assert latest_usable(run) == str(run / 'epoch_3.pth')


def test_none_usable_is_an_error_that_names_all(run):
    for path in run.glob('epoch_*.pth'):
        cut(path)
    with pytest.raises(RefusedError, match=r'epoch_3.pth.*epoch_2.pth.*epoch_1.pth.*another --work-dir'):
        latest_usable(run)


def test_nothing_yet(tmp_path):
    assert latest_usable(tmp_path) is None
    assert latest_usable(tmp_path / 'not there') is None


def test_a_work_dir_that_was_moved(run, tmp_path_factory, log):
    moved = run.rename(tmp_path_factory.mktemp('elsewhere') / 'work')
    assert latest_usable(moved) == str(moved / 'epoch_3.pth')
    assert not log.text


def test_checkpoints_in_another_folder(run, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('work')
    point_to(work_dir, run / 'epoch_3.pth')
    cut(run / 'epoch_3.pth')
    assert latest_usable(work_dir) == str(run / 'epoch_2.pth')


def test_a_remote_file_is_left_to_its_reader(tmp_path):
    point_to(tmp_path, 's3://bucket/epoch_3.pth')
    assert latest_usable(tmp_path) == 's3://bucket/epoch_3.pth'


def test_damage_says_what(run):
    assert damage(run / 'epoch_1.pth') is None
    alter(run / 'epoch_1.pth')
    assert 'altered' in damage(run / 'epoch_1.pth')
    assert 'No such file' in damage(run / 'gone.pth')
    archive(run / 'epoch_2.pth')
    assert damage(run / 'epoch_2.pth') == 'not written by torch.save'
