"""The server of projects/serve over HTTP on this machine: boxes, bad requests, batches, and a full server."""

import contextlib
import http.client
import importlib.util
import json
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from constant_model import write_constant_model

from rtmdet_runtime import RTMDetector

for package in ('fastapi', 'uvicorn', 'python_multipart'):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install ".[serve]"')

FILE = Path(__file__).parents[2] / 'projects' / 'serve' / 'server.py'
spec = importlib.util.spec_from_file_location('server', FILE)
server = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look there
spec.loader.exec_module(server)

BOXES, SCORES = [[0, 0, 32, 32], [40, 10, 60, 20]], [[0.9, 0.0], [0.0, 0.5]]
LIMITS = server.Limits(requests=6, bytes=100_000, images=3, seconds=1)


def encoded(height: int, width: int) -> bytes:
    return cv2.imencode('.png', np.full((height, width, 3), 50, np.uint8))[1].tobytes()


def bomb() -> bytes:
    """A PNG whose header claims 10^10 pixels."""
    header = b'IHDR' + struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header)) + b'IDAT'


def form(*images: bytes) -> dict:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n\r\n%s\r\n' % (i, image)
        for i, image in enumerate(images)
    ]
    return dict(body=b''.join([*parts, b'--x--\r\n']), headers={'Content-Type': 'multipart/form-data; boundary=x'})


def until(is_done):
    for _ in range(1000):
        if is_done():
            return
        time.sleep(0.01)
    raise TimeoutError


class Running:
    """A server in another thread."""

    def __init__(self, detector, **settings):
        self.app = server.create_app(detector, limits=LIMITS, **settings)
        self.uvicorn = server.uvicorn.Server(server.uvicorn.Config(self.app, port=0, log_level='error'))
        self.thread = threading.Thread(target=self.uvicorn.run)

    def __enter__(self):
        self.thread.start()
        until(lambda: self.uvicorn.started)
        self.port = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self.uvicorn.should_exit = True
        self.thread.join(10)

    def call(self, method='POST', path='/predict', body=None, headers=None):
        """Return status, content and headers of the answer."""
        with contextlib.closing(http.client.HTTPConnection('127.0.0.1', self.port, timeout=10)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers


@pytest.fixture(scope='module')
def detector(tmp_path_factory) -> RTMDetector:
    return RTMDetector(write_constant_model(tmp_path_factory.mktemp('serve') / 'model.onnx', BOXES, SCORES))


@pytest.fixture(scope='module')
def running(detector):
    with Running(detector) as running:
        yield running


def test_the_body_is_an_image(running):
    status, (found,), _ = running.call(body=encoded(128, 192))
    assert status == 200
    assert found == dict(
        image='image', boxes=[[0, 0, 64, 64], [80, 20, 120, 40]], scores=[0.9, 0.5], classes=['cat', 'dog']
    )


def test_a_form_has_several_images(running):
    """Each result belongs to its image: the boxes are in its pixels."""
    status, found, _ = running.call(**form(encoded(64, 96), encoded(256, 384), encoded(32, 40)))
    assert status == 200
    assert [(one['image'], one['boxes'][0][2]) for one in found] == [('0.png', 32), ('1.png', 128), ('2.png', 16)]


BAD = {
    'empty': (dict(body=b''), 400, 'must have an image'),
    'text': (dict(body=b'text'), 400, 'image must be an image that OpenCV can decode'),
    'cut off': (dict(body=encoded(64, 96)[:60]), 400, 'image must be an image that OpenCV can decode'),
    'bomb': (dict(body=bomb()), 400, 'an image must have at most 180,000,000 pixels'),
    'too long': (dict(body=bytes(LIMITS.bytes + 1)), 413, 'at most 100,000 bytes'),
    'too long in parts': (dict(body=iter([bytes(60_000)] * 2)), 413, 'at most 100,000 bytes'),
    'one of a form': (form(encoded(64, 96), b'text'), 400, '1.png must be an image'),
    'too many': (form(*[encoded(64, 96)] * 4), 400, 'Maximum number of files is 3'),
    'a form without images': (form(), 400, 'must have an image'),
    'no form': (dict(body=b'text', headers={'Content-Type': 'multipart/form-data'}), 400, 'boundary'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_requests_are_refused_and_the_server_stays(name, running):
    request, expected, reason = BAD[name]
    status, content, _ = running.call(**request)
    assert (status, reason in content['detail']) == (expected, True), content
    status, content, _ = running.call('GET', '/healthz')
    assert (status, content['status'], content['classes']) == (200, 'ok', ['cat', 'dog'])


def test_a_slow_request_is_ended(running):
    with contextlib.closing(http.client.HTTPConnection('127.0.0.1', running.port, timeout=5)) as connection:
        connection.putrequest('POST', '/predict')
        connection.putheader('Content-Length', '100')
        connection.endheaders(b'a part')
        assert connection.getresponse().status == 408


class Waiting:
    """A detector that waits before each batch, and records its size."""

    def __init__(self, detector):
        self.detector, self.info, self.sizes = detector, detector.info, []
        self.go = threading.Event()

    def predict(self, images, batch_size=1):
        if isinstance(images, list):
            self.sizes.append(len(images))
            self.go.wait(10)
        return self.detector.predict(images, batch_size)


def test_batches_and_a_full_server(detector):
    """The first image is predicted alone, and the others, which wait meanwhile, in batches."""
    waiting = Waiting(detector)
    with Running(waiting, batch_size=3) as running, ThreadPoolExecutor(6) as clients:
        sizes = [32, 64, 128, 160, 192, 256]
        answers = []
        for height in sizes:
            answers.append(clients.submit(running.call, body=encoded(height, 2 * height)))
            until(lambda: len(waiting.sizes) + running.app.state.batcher.queue.qsize() == len(answers))
        status, content, headers = running.call(body=encoded(32, 32))
        assert (status, headers['Retry-After']) == (503, '1') and 'try again' in content['detail']
        assert running.call('GET', '/healthz')[0] == 200
        waiting.go.set()
        found = [answer.result() for answer in answers]
    assert waiting.sizes == [1, 3, 2]
    assert [status for status, *_ in found] == [200] * 6
    assert [content[0]['boxes'][0][2] for _, content, _ in found] == pytest.approx(
        [32 * height / 48 for height in sizes], abs=0.01
    )


def test_an_error_of_the_network_is_one_of_its_requests_only(detector, monkeypatch):
    with Running(detector) as running:
        monkeypatch.setattr(detector, 'predict', lambda *_: 1 / 0)
        with contextlib.closing(http.client.HTTPConnection('127.0.0.1', running.port)) as connection:
            connection.request('POST', '/predict', encoded(64, 96))
            assert connection.getresponse().status == 500
        monkeypatch.undo()
        assert running.call(body=encoded(64, 96))[0] == 200
