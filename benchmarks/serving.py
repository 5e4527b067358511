"""Measure the server of projects/serve on this machine with 1, 8 and 64 concurrent clients, bad requests among them.

    OMP_NUM_THREADS=1 python benchmarks/serving.py

The model is the demo's (128 px) and the images are the demo's at 640 px, so the figures are mostly those of the server
and of decoding. Every tenth request is bad. Each answer is checked: boxes against `RTMDetector`, bad requests by their
status; a client that gets status 503 waits as the server asks, and tries again. The last row is a server that accepts
only 16 requests at once. The latency is that of good requests, with their waiting. Server and clients share the
processor. Writes benchmarks/results/serving_<device>_<machine>.json.
"""

import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
from results import report

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / 'projects' / 'demo'), str(ROOT)]
from generate import Settings, generate  # noqa: E402

from rtmdet_plugin.checkpoints.load_model import load_model, read_config  # noqa: E402
from rtmdet_plugin.export.onnx_export import export_onnx  # noqa: E402
from rtmdet_runtime import RTMDetector  # noqa: E402

LOADS = ((1, 200, 64), (8, 800, 64), (64, 1600, 64), (64, 1600, 16))
"""Concurrent clients, requests of all clients, and requests that the server accepts at once."""
MAX_BYTES = 1_000_000
PNG = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1].tobytes()
BAD = {
    b'no image': 400,
    b'': 400,
    PNG[:40]: 400,  # cut off
    PNG[:16] + b'\x00\x01\x86\xa0' * 2 + PNG[24:]: 400,  # claims 100,000 x 100,000 pixels
    bytes(MAX_BYTES + 1): 413,
}
"""Bad bodies, and the status of the answer."""


@contextlib.contextmanager
def started_server(model: Path, max_requests: int):
    """Start the server in another process, and yield its port and process id when it answers."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / 'projects' / 'serve' / 'server.py'), str(model), f'--port={port}']
    command += ['--threads=1', f'--max-bytes={MAX_BYTES}', f'--max-requests={max_requests}']
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    with subprocess.Popen(command, env=environment) as process:
        try:
            while process.poll() is None:
                with contextlib.suppress(OSError):
                    socket.create_connection(('127.0.0.1', port), 1).close()
                    break
                time.sleep(0.1)
            yield port, process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far (Linux)."""
    user, system = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


def client(port: int, requests: list, latencies: list[float], outcomes: Counter) -> None:
    """Send requests one after the other over one connection; check and count the answers.

    Args:
        port: the server's.
        requests: body, status and boxes of each; the boxes of bad requests are None.
        latencies: gets the seconds of each good request.
        outcomes: gets the number of requests by outcome.
    """
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    for body, expected, boxes in requests:
        start = time.perf_counter()
        while True:
            connection.request('POST', '/predict', body)
            answer = connection.getresponse()
            content = json.loads(answer.read())
            if answer.status != 503:
                break
            outcomes['retried'] += 1
            time.sleep(int(answer.headers['Retry-After']))
        if answer.status != expected:
            outcomes['wrong'] += 1
        elif boxes is None:
            outcomes['refused'] += 1
        else:
            latencies.append(time.perf_counter() - start)
            found = np.reshape(content[0]['boxes'], (-1, 4))
            same = found.shape == boxes.shape and np.abs(found - boxes).max(initial=0) < 0.02
            outcomes['right' if same else 'wrong'] += 1


def measure(model: Path, images: dict[bytes, np.ndarray], clients: int, count: int, max_requests: int) -> dict:
    """Return the row of one load.

    Args:
        model: file of the model.
        images: content of each image, and the boxes in it.
        clients: number of concurrent clients.
        count: requests of all clients.
        max_requests: requests that the server accepts at once.
    """
    good, bad = cycle((content, 200, boxes) for content, boxes in images.items()), cycle(BAD.items())
    requests = [next(good) if i % 10 else (*next(bad), None) for i in range(count)]
    latencies, outcomes = [], Counter(right=0, refused=0, wrong=0, retried=0)
    with started_server(model, max_requests) as (port, pid):
        client(port, requests[:20], [], Counter())  # warm-up
        shares = [requests[i::clients] for i in range(clients)]
        threads = [threading.Thread(target=client, args=(port, share, latencies, outcomes)) for share in shares]
        cpu, start = cpu_seconds(pid), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall, cpu = time.perf_counter() - start, cpu_seconds(pid) - cpu
    percentiles = statistics.quantiles(latencies, n=100)
    return dict(
        clients=clients,
        accepted_at_once=max_requests,
        requests=count,
        **outcomes,
        lost=count - outcomes['right'] - outcomes['refused'] - outcomes['wrong'],
        p50_ms=1e3 * percentiles[49],
        p99_ms=1e3 * percentiles[98],
        requests_per_s=count / wall,
        server_cpu_ms=1e3 * cpu / count,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = ROOT / 'projects' / 'demo' / 'rtmdet_demo'
        network = load_model(read_config(demo.with_suffix('.py')), demo.with_suffix('.safetensors'))
        export_onnx(network, folder / 'model.onnx', form='raw', dynamic='batch')
        detector = RTMDetector(folder / 'model.onnx', threads=1)
        generate(folder / 'data', Settings(train=1, val=20))
        images = {}
        for path in sorted((folder / 'data' / 'val').iterdir()):
            large = cv2.resize(cv2.imread(str(path)), (640, 640))
            content = cv2.imencode('.jpg', large)[1]
            images[content.tobytes()] = detector.predict(cv2.imdecode(content, cv2.IMREAD_COLOR)).boxes
        rows = [measure(folder / 'model.onnx', images, *load) for load in LOADS]
    report('serving', rows)


if __name__ == '__main__':
    main()
