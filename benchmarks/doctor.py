"""Measure `rtmdet doctor` on generated datasets of many small images, in each annotation format.

    python benchmarks/doctor.py            # 100,000 images
    python benchmarks/doctor.py --images 5000 --no-save

An image has 64 x 48 pixels and five objects. Every 1,000th is a copy of the one before it. Larger images take no
longer: without --deep, only headers, sizes of files and the ends of files of the same size are read. Writes
benchmarks/results/doctor_<device>_<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from harness import Parts
from results import report, result_file

WIDTH, HEIGHT, OBJECTS, COPIES = 64, 48, 5, 1000
FORMATS = ('coco', 'yolo', 'voc', 'csv')
XML = '<annotation><filename>{}</filename><size><width>{}</width><height>{}</height></size>{}</annotation>'
OBJECT = (
    '<object><name>c{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
)


def write_images(folder: Path, count: int) -> list[str]:
    """Write images that differ in the bytes after their end; return their names."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    data = cv2.imencode('.jpg', noise)[1].tobytes()
    names = [f'{place:06}.jpg' for place in range(count)]
    for place, name in enumerate(names):
        (folder / name).write_bytes(data + b'%06d' % (place - (place % COPIES == 1)))
    return names


def write_annotations(root: Path, names: list[str], kind: str) -> Path:
    """Write the annotations of all images in one format; return the dataset's file or folder."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, (WIDTH - 20, HEIGHT - 20), (len(names), OBJECTS, 2))
    boxes = np.concatenate([corners, corners + rng.integers(10, 20, corners.shape)], axis=2).tolist()
    labels = rng.integers(0, 10, (len(names), OBJECTS)).tolist()
    if kind == 'coco':
        images = [dict(id=i, file_name=name, width=WIDTH, height=HEIGHT) for i, name in enumerate(names)]
        annotations = [
            dict(id=OBJECTS * i + k + 1, image_id=i, category_id=label, bbox=[x1, y1, x2 - x1, y2 - y1])
            for i, members in enumerate(boxes)
            for k, ((x1, y1, x2, y2), label) in enumerate(zip(members, labels[i], strict=True))
        ]
        categories = [dict(id=i, name=f'c{i}') for i in range(10)]
        file = root / 'all.json'
        file.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
        return file
    if kind == 'csv':
        rows = ['filename,width,height,class,xmin,ymin,xmax,ymax']
        rows += [
            f'{name},{WIDTH},{HEIGHT},c{label},{x1},{y1},{x2},{y2}'
            for i, name in enumerate(names)
            for (x1, y1, x2, y2), label in zip(boxes[i], labels[i], strict=True)
        ]
        file = root / 'all.csv'
        file.write_text('\n'.join(rows))
        return file
    folder = root / ('labels' if kind == 'yolo' else 'Annotations')
    folder.mkdir()
    for i, name in enumerate(names):
        members = zip(labels[i], boxes[i], strict=True)
        if kind == 'yolo':
            text = ''.join(
                f'{label} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} {(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}\n'
                for label, (x1, y1, x2, y2) in members
            )
        else:
            text = XML.format(name, WIDTH, HEIGHT, ''.join(OBJECT.format(label, *box) for label, box in members))
        (folder / f'{name[:-4]}.{"txt" if kind == "yolo" else "xml"}').write_text(text)
    if kind == 'voc':
        return folder
    (root / 'data.yaml').write_text(f'train: images\nnames: {[f"c{i}" for i in range(10)]}')
    return root / 'data.yaml'


def measure(data: Path, images: int) -> dict[str, float]:
    """Run the command; return its wall-clock and processor time in seconds."""
    out = data.parent / 'found.json'
    command = [sys.executable, '-m', 'rtmdet_cli.main', 'doctor', str(data), '--json', str(out), '--show', '0']
    parts = Parts()
    with parts.part('doctor'):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = {finding['kind']: finding for finding in json.loads(out.read_text())['findings']}
    copies = len(found['duplicates']['items'])
    assert copies == -(-(images - 1) // COPIES), copies
    return dict(wall_s=parts['doctor'].wall, cpu_s=parts['doctor'].cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=100_000)
    parser.add_argument(
        '--formats', nargs='+', choices=FORMATS, default=FORMATS, help='measure only these and keep the other results'
    )
    parser.add_argument('--no-save', action='store_true', help='write no results')
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = write_images(root / 'images', args.images)
        for kind in args.formats:
            data = write_annotations(root, names, kind)
            rows.append(dict(format=kind, images=args.images, **measure(data, args.images)))
            if data.is_file():
                data.unlink()
    saved = result_file('doctor')
    if saved.is_file() and not args.no_save:
        rows = [row for row in json.loads(saved.read_text())['rows'] if row['format'] not in args.formats] + rows
    report('doctor', rows, save=not args.no_save)


if __name__ == '__main__':
    main()
