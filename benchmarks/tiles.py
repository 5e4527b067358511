"""Compare `TiledDetector` with the prediction of complete images, and measure its memory on a very large image.

    RTMDET_DATA=... RTMDET_WEIGHTS=... python benchmarks/tiles.py

The first 48 validation images of coco_tiny become four mosaics of 2,560 x 1,440 pixels, in which nano finds persons
with an input of 320 px. The large image repeats one of them on 20,000 x 20,000 pixels; a process without PyTorch reads
and predicts it with tiles of 640 px. Writes benchmarks/results/tiles_<device>_<machine>.json.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from results import report
from rich.progress import track

from rtmdet_plugin import load_model
from rtmdet_plugin.evaluation.evaluation import evaluate_detections
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_runtime import RTMDetector, tiles
from rtmdet_runtime.image_size import VARIABLE
from rtmdet_runtime.tiles import TiledDetector

CONFIG = Path(__file__).parents[1] / 'configs' / 'rtmdet_nano_person.py'
CELL = 480, 640  # height and width in pixels
ROWS, COLUMNS = 3, 4
SIDE = 20_000
LARGE = """
import json, resource, sys, time
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.tiles import TiledDetector
started = time.perf_counter()
found = TiledDetector(RTMDetector(sys.argv[1]), 640, batch_size=4).predict(sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps(dict(boxes=len(found), seconds=time.perf_counter() - started, peak_GiB=peak)))
"""
"""Program that predicts a large image; it doesn't import PyTorch, whose memory would count."""


def mosaics(folder: Path) -> tuple[list[np.ndarray], dict[str, list[dict]]]:
    """Return mosaics of coco_tiny's validation images, and their persons as COCO's lists."""
    content = json.loads((folder / 'annotations' / 'instances_val2017.json').read_text())
    (person,) = (category['id'] for category in content['categories'] if category['name'] == 'person')
    per_mosaic = ROWS * COLUMNS
    sources = content['images'][: len(content['images']) // per_mosaic * per_mosaic]
    height, width = CELL[0] * ROWS, CELL[1] * COLUMNS
    drawn = [np.full((height, width, 3), 114, np.uint8) for _ in range(len(sources) // per_mosaic)]
    truth = dict(
        images=[dict(id=i, width=width, height=height) for i in range(len(drawn))],
        categories=[dict(id=1, name='person')],
        annotations=[],
    )
    for number, source in enumerate(sources):
        image_id, place = divmod(number, per_mosaic)
        top, left = (place // COLUMNS) * CELL[0], (place % COLUMNS) * CELL[1]
        image = cv2.imread(str(folder / 'val2017' / source['file_name']))
        scale = min(1, CELL[0] / image.shape[0], CELL[1] / image.shape[1])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        drawn[image_id][top : top + image.shape[0], left : left + image.shape[1]] = image
        for item in content['annotations']:
            if item['image_id'] == source['id'] and item['category_id'] == person:
                x, y, w, h = (scale * value for value in item['bbox'])
                box = dict(bbox=[left + x, top + y, w, h], area=scale**2 * item['area'], iscrowd=item['iscrowd'])
                truth['annotations'].append(dict(box, image_id=image_id, category_id=1))
    return drawn, truth


def figures(predict, images: list[np.ndarray], truth: dict[str, list[dict]]) -> dict[str, float]:
    """Return AP, AP of small objects, and precision and recall at the threshold with the best F1."""
    found = []
    for image_id, image in enumerate(track(images, 'predicting', transient=True)):
        found += predict(image).to_coco(image_id)
    result = evaluate_detections(truth, found)
    best = result.best
    points = {} if best is None else dict(precision=best.precision, recall=best.recall, f1=best.f1)
    return dict(AP=result.ap.ap, AP50=result.ap.ap50, AP_small=result.ap.small, **points)


def main() -> None:
    images, truth = mosaics(Path(os.environ['RTMDET_DATA']) / 'coco_tiny')
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'nano.onnx'
        model = load_model(str(CONFIG), Path(os.environ['RTMDET_WEIGHTS']) / 'rtmdet_nano_person.pth')
        export_onnx(model, file, dynamic='batch')
        detector = RTMDetector(file, score_thr=0.05)
        rows.append(dict(images='mosaics', method='complete image', **figures(detector.predict, images, truth)))
        for overlap in (0.2, 0.4):
            tiled = TiledDetector(detector, 320, overlap, 8)
            method = f'tiles of 320 px, overlap {overlap}'
            rows.append(dict(images='mosaics', method=method, **figures(tiled.predict, images, truth)))
            with mock.patch.object(tiles, 'CUT', 1.0):
                plain = figures(tiled.predict, images, truth)
            rows.append(dict(images='mosaics', method=f'{method}, cut boxes keep their scores', **plain))
        repeats = -(-SIDE // images[0].shape[0]), -(-SIDE // images[0].shape[1]), 1
        large = Path(folder) / 'large.jpg'
        cv2.imwrite(str(large), np.tile(images[0], repeats)[:SIDE, :SIDE])
        env = {**os.environ, VARIABLE: str(SIDE**2)}
        done = subprocess.run([sys.executable, '-c', LARGE, file, large], env=env, check=True, capture_output=True)
        rows.append(dict(images=f'{SIDE:,} x {SIDE:,}', method='tiles of 640 px', **json.loads(done.stdout)))
    report('tiles', rows, list(dict.fromkeys(name for row in rows for name in row)))


if __name__ == '__main__':
    main()
