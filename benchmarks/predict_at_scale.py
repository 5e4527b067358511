"""Run projects/predict_at_scale with two workers on this machine, kill one of them, and check the results.

    OMP_NUM_THREADS=1 python benchmarks/predict_at_scale.py

`demo`: 5,000 files, ten of which are bad, and the demo's model (128 px); a worker is killed after a fifth of the parts.
`tiny`: 200 JPEG files of 640 x 480 and RTMDet-tiny (640 px) with random weights; nothing is killed. Each image must
have one row, and every fiftieth the boxes of `RTMDetector`. Needs Ray. `images_per_s` is from the first finished part
to the last one, `cpu_ms` the CPU time of the workers per image. Writes
benchmarks/results/predict_at_scale_<device>_<machine>.json.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
from random_model import load_image, random_checkpoint
from results import report

from rtmdet_plugin.checkpoints.load_model import load_model, read_config
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_runtime import RTMDetector

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'projects' / 'demo'))
from generate import Settings, generate  # noqa: E402

WORKERS, PART = 2, 20
BAD = b'', b'no image'


def demo(folder: Path) -> None:
    """Write the demo's model and its images, in folders of 100, and bad ones."""
    source = ROOT / 'projects' / 'demo' / 'rtmdet_demo'
    model = load_model(read_config(source.with_suffix('.py')), source.with_suffix('.safetensors'))
    export_onnx(model, folder / 'model.onnx', form='raw', dynamic='batch')
    generate(folder / 'data', Settings(train=1, val=4990))
    for i, path in enumerate(sorted((folder / 'data' / 'val').iterdir())):
        target = folder / 'images' / f'{i // 1000}' / f'{i // 100}' / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for i in range(10):
        (folder / 'images' / f'bad {i}.jpg').write_bytes(BAD[i % len(BAD)])


def tiny(folder: Path) -> None:
    """Write RTMDet-tiny with random weights, and an image many times."""
    image = load_image()
    checkpoint = random_checkpoint('tiny', folder / 'tiny.pth', image, candidates=300)
    export_onnx(
        load_model(read_config(ROOT / 'configs' / 'rtmdet_tiny.py'), checkpoint), folder / 'model.onnx', form='raw'
    )
    (folder / 'images').mkdir()
    for i in range(200):
        cv2.imwrite(str(folder / 'images' / f'{i}.jpg'), image)


def workers(pid: int) -> list[int]:
    """Return the processes of a run that have a model (Linux)."""
    parents = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(')')[2].split()[1])
        except OSError:  # it has ended
            continue
    found, generation = [], {pid}
    while generation := {child for child, parent in parents.items() if parent in generation}:
        found += [child for child in generation if 'Predictor' in Path(f'/proc/{child}/cmdline').read_text()]
    return found


def run(folder: Path, kill_after: float) -> tuple[int, float, float]:
    """Predict all images, and kill a worker after a share of the parts.

    Returns:
        The number of killed workers, images/s, and the CPU time per image in ms.
    """
    script = ROOT / 'projects' / 'predict_at_scale' / 'predict.py'
    command = [sys.executable, str(script), 'model.onnx', 'results', 'images', f'--part-size={PART}']
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    killed, finished = 0, []
    with subprocess.Popen(
        [*command, f'--workers={WORKERS}'], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if not (found := re.match(r'(\d+)/(\d+) parts, ([\d,]+) images.* ([\d.]+) ms of CPU', line)):
                continue
            finished.append((time.perf_counter(), int(found[3].replace(',', '')), float(found[4])))
            if not killed and int(found[1]) / int(found[2]) >= kill_after:
                os.kill(workers(process.pid)[0], signal.SIGKILL)
                killed = 1
    if process.returncode:
        raise SystemExit(f'{script.name} failed')
    (start, first, _), (end, last, cpu) = finished[0], finished[-1]
    return killed, (last - first) / (end - start), cpu


def measure(name: str, prepare, kill_after: float) -> dict:
    """Return the row of a run, whose results are checked."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        killed, rate, cpu = run(folder, kill_after)
        rows = pq.read_table(folder / 'results').to_pylist()
        images = {str(path) for path in (folder / 'images').rglob('*.jpg')}
        found = [row['image'] for row in rows]
        detector, differences = RTMDetector(folder / 'model.onnx', threads=1), [0.0]
        for row in rows[::50]:
            if row['error'] is None:
                boxes = np.reshape(row['boxes'], (-1, 4))
                differences.append(np.abs(boxes - detector.predict(row['image']).boxes).max(initial=0))
        return dict(
            model=name,
            workers=WORKERS,
            killed=killed,
            images=len(images),
            missing=len(images - set(found)),
            repeated=len(found) - len(set(found)),
            errors=sum(row['error'] is not None for row in rows),
            largest_difference_px=float(max(differences)),
            images_per_s=rate,
            cpu_ms=cpu,
            bytes_per_image=sum(path.stat().st_size for path in (folder / 'results').iterdir()) / len(images),
        )


def main() -> None:
    report('predict_at_scale', [measure('demo', demo, 0.2), measure('tiny', tiny, 2)])


if __name__ == '__main__':
    main()
