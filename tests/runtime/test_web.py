"""Downloads from a local server: size, redirects, errors as one line."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from rtmdet_runtime.sources import read_sources, web, without_user
from rtmdet_runtime.sources.item import Item

IMAGE = cv2.imencode('.png', np.full((64, 96, 3), 50, np.uint8))[1].tobytes()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        port = self.server.server_address[1]
        places = {
            '/same': '/a.png',
            '/private': f'http://127.0.0.2:{port}/a.png',
            '/other_port': f'http://127.0.0.1:{self.server.other}/a.png',
            '/file': 'file:///etc/passwd',
            '/ftp': 'ftp://127.0.0.1/a.png',
            '/itself': f'http://LOCALHOST:{port}/a.png',
            '/loop': '/loop',
        }
        if self.path in places:
            self.send_response(302)
            self.send_header('Location', places[self.path])
            self.end_headers()
            return
        self.server.served.append(self.path)
        if self.path == '/missing.png':
            self.send_error(404)
            return
        self.send_response(200)
        if self.path == '/huge.png':
            self.send_header('Content-Length', str(3 * 10**9))
        elif self.path == '/cut.png':
            self.send_header('Content-Length', str(len(IMAGE) + 9))
        self.end_headers()
        self.wfile.write(IMAGE if self.path != '/endless.png' else IMAGE * 100)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A function that returns the address of a path; the paths that both servers served; the other server."""
    for name in (
        'http_proxy',
        'https_proxy',
        'HTTP_PROXY',
        'HTTPS_PROXY',
        'all_proxy',
        'ALL_PROXY',
        'no_proxy',
        'NO_PROXY',
    ):
        monkeypatch.delenv(name, raising=False)
    with (
        ThreadingHTTPServer(('0.0.0.0', 0), Handler) as server,
        ThreadingHTTPServer(('127.0.0.1', 0), Handler) as other,
    ):
        server.served, other.served, server.other = [], [], other.server_address[1]
        for one in (server, other):
            threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        address = f'http://127.0.0.1:{server.server_address[1]}'
        yield lambda path: address + path, [server.served, other.served], f'127.0.0.1:{server.other}'
        for one in (server, other):
            one.shutdown()


def test_an_image_is_read_and_named_by_its_address(server):
    address, *_ = server
    items = list(read_sources([address('/a%20b.png?size=1'), address('/same'), address('/no_name')]))
    assert [str(item.output) for item in items] == ['a b.png', 'same.jpg', 'no_name.jpg']
    assert items[0].source == address('/a%20b.png?size=1') and (items[0].image == 50).all()


def test_errors_are_one_line_and_the_next_image_is_read(server, monkeypatch):
    address, served, _ = server
    monkeypatch.setattr(web, 'MAX_BYTES', 1000)
    for path, said in (
        ('/missing.png', 'can not be read: the server answers 404'),
        ('/huge.png', 'must have at most 1,000 bytes, got 3,000,000,000'),
        ('/endless.png', 'must have at most 1,000 bytes, got more'),
        ('/cut.png', 'can not be read: IncompleteRead'),
        ('/private', 'can not be read: it redirects to 127.0.0.2:'),
        ('/other_port', 'which is in a private network (127.0.0.1)'),
        ('/file', 'file:///etc/passwd'),
        ('/ftp', 'it redirects to ftp://127.0.0.1/a.png, which is not http(s)'),
        ('/loop', 'can not be read: the server answers 302'),
    ):
        problem, item = read_sources([address(path), address('/a.png')])
        assert said in problem.line and problem.line.startswith(address(path)) and '\n' not in problem.line
        assert isinstance(item, Item)
    assert served[1] == [], 'nothing was sent to a private address'


def test_names_without_a_proxy_are_not_trusted(server, monkeypatch):
    address, served, other = server
    monkeypatch.setenv('no_proxy', f'{address("")[7:]},localhost,::1')
    (item,) = read_sources([address('/a.png')])
    assert isinstance(item, Item)
    monkeypatch.setenv('no_proxy', other)
    (problem,) = read_sources([address('/other_port')])
    assert 'which is in a private network (127.0.0.1)' in problem.line and served[1] == []


def test_only_the_ip_address_of_the_first_connection_is_trusted(server, monkeypatch):
    address, *_ = server
    assert isinstance(next(read_sources([address('/itself').replace('127.0.0.1', 'LOCALHOST')])), Item)
    resolve, ips = socket.getaddrinfo, iter(['127.0.0.1', '127.0.0.2'])
    monkeypatch.setattr(socket, 'getaddrinfo', lambda _, *others, **more: resolve(next(ips), *others, **more))
    (problem,) = read_sources([address('/itself').replace('127.0.0.1', 'localhost')])
    assert 'which is in a private network (127.0.0.2)' in problem.line


def test_a_download_has_no_name_that_could_be_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(web.tempfile, 'tempdir', str(tmp_path))
    with web.downloaded(server[0]('/a.png')) as file:
        assert file.read() == IMAGE and not list(tmp_path.iterdir())


def test_passwords_are_not_shown(server):
    (problem,) = read_sources([server[0]('/a.png').replace('//', '//bob:p@ss@')])
    assert problem.line.startswith(server[0]('/a.png must be given without user and password'))
    assert without_user('rtsp://user:p@ss@host/x@y') == 'rtsp://host/x@y'


def test_without_a_network():
    (problem,) = read_sources(['http://127.0.0.1:9/a.png'])
    assert problem.line == 'http://127.0.0.1:9/a.png can not be read: Connection refused'
    (problem,) = read_sources(['http://no.such.host.invalid/a.png'])
    assert problem.line.startswith('http://no.such.host.invalid/a.png can not be read: ')
