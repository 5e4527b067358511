"""Result files: whole or not at all, and refused beforehand where they can't be written."""

import json
import os

import pytest

from rtmdet_runtime.output import check_writable, write_json, write_whole


def test_json_in_a_new_folder(tmp_path):
    write_json(tmp_path / 'a' / 'b.json', dict(x=[1, 2]))
    text = (tmp_path / 'a' / 'b.json').read_text()
    assert json.loads(text) == dict(x=[1, 2]) and text.endswith('\n')
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['b.json']


def test_a_kill_before_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'm.json'
    path.write_text('old')
    seen = []

    def killed(source, target):
        seen.append((source.read_bytes(), target.read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b'new')
    assert seen == [(b'new', 'old')] and path.read_text() == 'old'
    assert [file.name for file in tmp_path.iterdir()] == ['m.json']


def test_a_file_of_the_usual_permissions(tmp_path):
    (tmp_path / 'usual').touch()
    write_whole(tmp_path / 'a', b'')
    assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'usual').stat().st_mode


def test_a_link_stays_one(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path / 'file')
    write_whole(tmp_path / 'link', b'x')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'file').read_bytes() == b'x'


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


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    (tmp_path / 'm.json').write_text('old')

    def full(path, content) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(type(tmp_path), 'write_bytes', full)
    with pytest.raises(OSError, match='m.json can not be written: No space left on device'):
        write_json(tmp_path / 'm.json', [])
    assert [path.name for path in tmp_path.iterdir()] == ['m.json'] and (tmp_path / 'm.json').read_text() == 'old'
