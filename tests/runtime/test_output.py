"""Result files: whole or not at all, and refused beforehand where they can't be written."""

import json
import os

import pytest

from rtmdet_runtime.output import write_json, write_result


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
        write_result(path, b'new')
    assert seen == [(b'new', 'old')] and path.read_text() == 'old'
    assert [file.name for file in tmp_path.iterdir()] == ['m.json']


def test_a_file_of_the_usual_permissions(tmp_path):
    (tmp_path / 'usual').touch()
    write_result(tmp_path / 'a', b'')
    assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'usual').stat().st_mode


def test_a_link_stays_one(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path / 'file')
    write_result(tmp_path / 'link', b'x')
    assert (tmp_path / 'link').is_symlink() and (tmp_path / 'file').read_bytes() == b'x'


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    (tmp_path / 'm.json').write_text('old')

    def full(path, content) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(type(tmp_path), 'write_bytes', full)
    with pytest.raises(OSError, match='m.json can not be written: No space left on device'):
        write_json(tmp_path / 'm.json', [])
    assert [path.name for path in tmp_path.iterdir()] == ['m.json'] and (tmp_path / 'm.json').read_text() == 'old'
