"""A file has its old or its new content, whatever happens while it is written."""

import errno

import faults
import pytest
from mmengine.fileio import get_file_backend

from rtmdet_plugin.checkpoints.atomic_file import remove_partial_files, write_atomically

OLD, NEW = b'old', b'the new content'


@pytest.fixture
def path(tmp_path):
    target = tmp_path / 'x.pth'
    target.write_bytes(OLD)
    return target


def number_of_steps(tmp_path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        count = faults.Faults(patch, faults.disk_full)
        write_atomically(tmp_path / 'count.pth', NEW)
    return count.done


def test_writes_replaces_and_makes_folders(tmp_path):
    target = tmp_path / 'a' / 'b' / 'x.pth'
    for content in (OLD, NEW, b''):
        write_atomically(target, content)
        assert target.read_bytes() == content
    assert list(target.parent.iterdir()) == [target]


def test_a_full_disk_at_every_step_leaves_the_old_file_alone(path):
    steps = number_of_steps(path.parent)
    (path.parent / 'count.pth').unlink()
    assert steps == 7, 'open, three writes, fsync, rename, fsync of the folder'
    for at in range(steps - 1):
        with pytest.MonkeyPatch.context() as patch:
            faults.Faults(patch, faults.disk_full, at)
            with pytest.raises(OSError, match='No space left') as raised:
                write_atomically(path, NEW)
        assert raised.value.errno == errno.ENOSPC
        assert path.read_bytes() == OLD
        assert list(path.parent.iterdir()) == [path], 'the half-written one is removed'


def test_a_kill_at_every_step_leaves_one_of_the_two(path, monkeypatch):
    seen, left = [], []
    for at in range(number_of_steps(path.parent)):
        path.write_bytes(OLD)

        def write(at=at):
            faults.Faults(monkeypatch, faults.kill, at)
            write_atomically(path, NEW)

        assert faults.in_child(write) == faults.KILLED
        seen.append(path.read_bytes())
        left.append(len(list(path.parent.glob('.*'))))
        remove_partial_files(path.parent)
        assert not list(path.parent.glob('.*'))
    assert seen == [OLD] * 6 + [NEW], 'the rename is the sixth step'
    assert left == [0] + [1] * 5 + [0], 'from the opening to the rename there is a half-written one'


def test_mmengine_finds_the_backend_by_name(path):
    backend = get_file_backend(str(path), backend_args=dict(backend='rtm_atomic'))
    with pytest.MonkeyPatch.context() as patch:
        faults.Faults(patch, faults.disk_full, 2)
        with pytest.raises(OSError, match='No space left'):
            backend.put(NEW, str(path))
    assert path.read_bytes() == OLD
    backend.put(NEW, str(path))
    assert path.read_bytes() == NEW
