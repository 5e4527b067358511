"""A file has its old or its new content, whatever happens while it is written."""

import errno
import os

import faults
import pytest

from rtmdet_runtime.atomic_files import (
    check_writable,
    remove_partial_files,
    unfinished,
    unfinished_folder,
    write_atomically,
)

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


def test_files_that_are_not_finished_leave_the_old_ones(tmp_path):
    (tmp_path / 'a').write_text('old')
    with pytest.raises(KeyError), unfinished(tmp_path / 'a', tmp_path / 'b') as (a, b):
        a.write_text('new')
        raise KeyError
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {'a': 'old'}
    with unfinished(tmp_path / 'a', tmp_path / 'b') as (a, b):
        a.write_text('new')
        b.write_text('new')
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {'a': 'new', 'b': 'new'}


@pytest.mark.parametrize('name', ['m.bin', 'm.xml'])
def test_a_folder_in_the_place_of_a_file_leaves_the_old_ones(tmp_path, name):
    for file in {'m.bin', 'm.xml'} - {name}:
        (tmp_path / file).write_text('old')
    (tmp_path / name).mkdir()
    before, files = sorted(tmp_path.iterdir()), unfinished(tmp_path / 'm.bin', tmp_path / 'm.xml')
    with pytest.raises(OSError, match=f'{name} can not be written: it must be a file'), files:
        raise AssertionError('the work comes after the check')
    assert sorted(tmp_path.iterdir()) == before


def test_links_stay_and_lead_to_the_new_files(tmp_path):
    """Two in another folder, the last one too; a third, in a folder of its own, leads to nothing yet."""
    places = dict(a=tmp_path / 'disk' / 'a', b=tmp_path / 'other' / 'b', c=tmp_path / 'c', d=tmp_path / 'disk' / 'd')
    for name, place in places.items():
        place.parent.mkdir(exist_ok=True)
        if name != 'b':
            place.write_text('old')
        if name != 'c':
            (tmp_path / name).symlink_to(place)
    with unfinished(*(tmp_path / name for name in 'abcd')) as files:
        assert [file.name for file in files] == [*'abcd'] and len({file.parent for file in files}) == 1
        for file in files:
            file.write_text(f'new {file.name}')
    assert {name: place.read_text() for name, place in places.items()} == {name: f'new {name}' for name in 'abcd'}
    assert [(tmp_path / name).is_symlink() for name in 'abcd'] == [True, True, False, True]
    found = [path.name for folder in (tmp_path, tmp_path / 'disk', tmp_path / 'other') for path in folder.iterdir()]
    assert sorted(found) == ['a', 'a', 'b', 'b', 'c', 'd', 'd', 'disk', 'other']


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), unfinished_folder(tmp_path / 'a' / 'b') as folder:
        (folder / 'file').write_text('half')
        raise KeyError
    assert not list((tmp_path / 'a').iterdir())
    (tmp_path / 'a' / 'b').mkdir()
    with unfinished_folder(tmp_path / 'a' / 'b') as folder:  # an empty one may be there
        (folder / 'file').write_text('x')
        assert not list((tmp_path / 'a' / 'b').iterdir())
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['b']
    assert (tmp_path / 'a' / 'b' / 'file').read_text() == 'x'
    whole = unfinished_folder(tmp_path / 'a' / 'b')
    with pytest.raises(FileExistsError, match='b must be a new or an empty folder'), whole:
        pass


def test_a_kill_between_two_files_leaves_no_model(tmp_path, monkeypatch):
    """Rather than the old graph with the new weights, which would load."""
    for name in ('m.bin', 'm.xml'):
        (tmp_path / name).write_text('old')
    replace, moved = os.replace, []

    def killed(source, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / 'm.bin', tmp_path / 'm.xml') as files:
        for file in files:
            file.write_text('new')
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {'m.bin': 'new'}


def test_what_can_be_written_is_not_touched(tmp_path):
    (tmp_path / 'old').write_text('x')
    check_writable(tmp_path / 'old')
    check_writable(tmp_path / 'new' / 'folder' / 'file')
    assert [path.name for path in tmp_path.iterdir()] == ['old'] and (tmp_path / 'old').read_text() == 'x'


@pytest.mark.parametrize('place', ['folder', 'pipe', 'file/x', 'file/x/y', 'locked/x'])
def test_what_can_not_be_written_is_refused(tmp_path, place):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'locked').mkdir(0o500)
    (tmp_path / 'file').touch()
    os.mkfifo(tmp_path / 'pipe')
    if place == 'locked/x' and os.access(tmp_path / 'locked', os.W_OK):
        pytest.skip('this user may write anywhere')
    with pytest.raises(OSError, match=f'{place} can not be written: ') as caught:
        check_writable(tmp_path / place)
    assert '\n' not in str(caught.value)
