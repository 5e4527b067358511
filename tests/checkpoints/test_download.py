"""Published weights: downloaded from a local server, continued, verified, and never there in part."""

import errno
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rtmdet_plugin.checkpoints import published
from rtmdet_plugin.checkpoints.download import DownloadError, download
from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.training.start_weights import find_weights

CONTENT = bytes(range(256)) * 4096
SHA = hashlib.sha256(CONTENT).hexdigest()[:8]


class Server(ThreadingHTTPServer):
    """Serves CONTENT under any path; `ranges` are the ranges that were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.content = CONTENT
        self.part = len(CONTENT)
        """Number of bytes after which a connection is closed."""
        self.accepts_ranges = True
        self.address = f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers['Range']
        server.ranges.append(asked)
        server.paths.append(self.path)
        start = int(asked.split('=')[1].rstrip('-')) if asked and server.accepts_ranges else 0
        if self.path == '/gone':
            return self.send_error(404)
        if start >= len(server.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header('Content-Length', str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start : start + server.part])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "my 'wëights'" / 'a.pth'


def partial(file):
    return file.with_name('.a.pth.partial')


def test_a_file_is_downloaded(server, file):
    download(f'{server.address}/a.pth', file, SHA)
    assert file.read_bytes() == CONTENT and list(file.parent.iterdir()) == [file]


def test_a_lost_connection_is_opened_again(server, file):
    server.part = 400_000
    download(f'{server.address}/a.pth', file, SHA)
    assert file.read_bytes() == CONTENT
    assert server.ranges == [None, 'bytes=400000-', 'bytes=800000-']


@pytest.mark.parametrize('length', [1000, len(CONTENT)])
def test_an_interrupted_download_is_continued(length, server, file):
    file.parent.mkdir()
    partial(file).write_bytes(CONTENT[:length])
    download(f'{server.address}/a.pth', file, SHA)
    assert file.read_bytes() == CONTENT and server.ranges == [f'bytes={length}-']


def test_a_server_without_ranges_sends_all_again(server, file):
    server.accepts_ranges = False
    file.parent.mkdir()
    partial(file).write_bytes(CONTENT[:1000])
    download(f'{server.address}/a.pth', file, SHA)
    assert file.read_bytes() == CONTENT


def test_a_wrong_part_is_downloaded_again(server, file):
    file.parent.mkdir()
    partial(file).write_bytes(b'<html>')
    download(f'{server.address}/a.pth', file, SHA)
    assert file.read_bytes() == CONTENT and server.ranges == ['bytes=6-', None]


def test_another_content_is_refused_and_removed(server, file):
    server.content = b'<html>Please log in</html>'
    with pytest.raises(DownloadError, match=f'SHA-256 must begin with {SHA}'):
        download(f'{server.address}/a.pth', file, SHA)
    assert not list(file.parent.iterdir())


def test_what_was_received_is_kept_if_the_server_goes(server, file):
    server.part = 1000

    def gone_after_two(asked):
        list.append(server.ranges, asked)
        server.part = 1000 if len(server.ranges) < 2 else 0

    server.ranges = type('Ranges', (list,), dict(append=lambda self, asked: gone_after_two(asked)))()
    with pytest.raises(DownloadError):
        download(f'{server.address}/a.pth', file, SHA)
    assert not file.exists() and partial(file).read_bytes() == CONTENT[:1000]


def test_a_wrong_address_is_named_and_leaves_nothing(server, file):
    with pytest.raises(DownloadError, match='the server answers 404'):
        download(f'{server.address}/gone', file, SHA)
    assert not list(file.parent.iterdir())


def test_two_downloads_of_one_file_do_not_mix(server, file):
    threads = [threading.Thread(target=download, args=(f'{server.address}/a.pth', file, SHA)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() == CONTENT and len(server.ranges) == 1


def test_the_weights_of_a_model_come_from_the_mirror(server, tmp_path, monkeypatch):
    monkeypatch.setenv(published.HOME, str(tmp_path))
    monkeypatch.setenv(published.MIRROR, f'{server.address}/openmmlab/')
    address = f'{published.SITE}/a/rtmdet_tiny-{SHA}.pth'
    monkeypatch.setitem(published.ADDRESSES, 'tiny', address)
    found = find_weights('default', 'tiny')
    assert found.read_bytes() == CONTENT and server.paths == [f'/openmmlab/a/rtmdet_tiny-{SHA}.pth']
    assert find_weights('default', 'tiny') == found and len(server.paths) == 1


def test_without_a_network_the_error_names_file_folder_and_address(tmp_path, monkeypatch):
    monkeypatch.setenv(published.HOME, str(tmp_path))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setenv(published.MIRROR, 'http://127.0.0.1:9')
    with pytest.raises(RefusedError) as error:
        find_weights('default', 'tiny')
    assert all(
        part in str(error.value) for part in (str(tmp_path), published.ADDRESSES['tiny'], 'failed: Connection refused;')
    )
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(published.MIRROR, 'file:///etc')
    with pytest.raises(RefusedError, match="RTMDET_MIRROR must begin with http:// or https://, got 'file:///etc'"):
        find_weights('default', 'tiny')


def test_a_folder_that_can_not_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv(published.HOME, str(tmp_path / 'file' / 'weights'))
    with pytest.raises(RefusedError, match=r'weights can not be written: Not a directory; put https://'):
        find_weights('default', 'tiny')


def test_a_full_disk_is_named(server, tmp_path, monkeypatch):
    """The part that was written stays, and is continued when there is space."""

    def full(address, written):
        written.write(b'12')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv(published.HOME, str(tmp_path))
    monkeypatch.setattr('rtmdet_plugin.checkpoints.download._receive', full)
    with pytest.raises(RefusedError, match='can not be written: No space left on device; put https://'):
        find_weights('default', 'tiny')
    assert [path.suffix for path in tmp_path.iterdir()] == ['.partial']
