"""The same few images and boxes, written in each of the formats that `rtmdet train` reads."""

import json
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 80, 60
CLASSES = ('cat', 'dog')
Boxes = dict[str, list[tuple[str, int, int, int, int]]]  # by stem: class and xyxy in pixels


def write_images(folder: Path, count: int, start: int = 0) -> Boxes:
    """Write images with one or two rectangles; return their boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(start)
    found: Boxes = {}
    for i in range(start, start + count):
        img = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        img = cv2.resize(img, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        found[f'a {i}'] = boxes = []
        for k in range(1 + i % 2):
            x, y = rng.integers(0, 30, 2).tolist()
            w, h = rng.integers(16, 28, 2).tolist()
            name = CLASSES[(i + k) % 2]
            img[y : y + h, x : x + w] = (255, 0, 0) if name == 'cat' else (0, 0, 255)
            boxes.append((name, x, y, x + w, y + h))
        (folder / f'a {i}.png').write_bytes(cv2.imencode('.png', img)[1].tobytes())
    return found


def write_coco(root: Path, train: int = 6, val: int = 0) -> dict[str, Boxes]:
    """Write Roboflow's layout if there is a validation split, else one file next to images/."""
    parts = {'train': write_images(root / ('train' if val else 'images'), train)}
    if val:
        parts['val'] = write_images(root / 'valid', val, start=100)
    for split, boxes in parts.items():
        images = [dict(id=i, file_name=f'{stem}.png', width=WIDTH, height=HEIGHT) for i, stem in enumerate(boxes)]
        annotations = [
            dict(id=10 * i + k + 1, image_id=i, category_id=CLASSES.index(name) + 1, bbox=[x1, y1, x2 - x1, y2 - y1])
            for i, listed in enumerate(boxes.values())
            for k, (name, x1, y1, x2, y2) in enumerate(listed)
        ]
        categories = [dict(id=i, name=name, supercategory='pets') for i, name in enumerate(CLASSES, 1)]
        if val:
            categories.insert(0, dict(id=0, name='pets', supercategory='none'))
        file = root / dict(train='train', val='valid')[split] / '_annotations.coco.json' if val else root / 'all.json'
        file.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return parts


def yolo_lines(boxes: list) -> str:
    lines = []
    for k, (name, x1, y1, x2, y2) in enumerate(boxes):
        left, top, right, bottom = x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT
        numbers = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        if k:  # as a polygon
            numbers = [left, top, right, top, right, bottom, left, bottom]
        lines.append(' '.join(map(str, [CLASSES.index(name), *numbers])))
    return '\n'.join(lines) + '\n'


def write_yolo(root: Path, train: int = 6, val: int = 0, yaml: bool = True) -> dict[str, Boxes]:
    """Write `images/train` and `labels/train`, with a data.yaml if asked for."""
    parts = {}
    for split, count in dict(train=train, val=val).items():
        if count:
            parts[split] = write_images(root / 'images' / split, count, start=100 * (split == 'val'))
            (root / 'labels' / split).mkdir(parents=True)
            for stem, boxes in parts[split].items():
                (root / 'labels' / split / f'{stem}.txt').write_text(yolo_lines(boxes))
    if yaml:
        lines = [f'{split}: images/{split}' for split in parts]
        (root / 'data.yaml').write_text('\n'.join([f'path: {root.resolve()}', *lines, 'names: [cat, dog]']) + '\n')
    else:
        (root / 'classes.txt').write_text('cat\ndog\n')
    return parts


XML = """<?xml version="1.0"?>
<annotation>
  <filename>{name}</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
{objects}</annotation>
"""
OBJECT = (
    '  <object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>\n'
)


def write_voc(root: Path, train: int = 6, val: int = 0) -> dict[str, Boxes]:
    """Write `JPEGImages` and `Annotations`, with `ImageSets` if there is a validation split."""
    parts = {'train': write_images(root / 'JPEGImages', train)}
    if val:
        parts['val'] = write_images(root / 'JPEGImages', val, start=100)
        (root / 'ImageSets' / 'Main').mkdir(parents=True)
        for split, boxes in parts.items():
            # Names of VOC have no spaces.
            renamed = {stem.replace(' ', '_'): stem for stem in boxes}
            for new, stem in renamed.items():
                (root / 'JPEGImages' / f'{stem}.png').rename(root / 'JPEGImages' / f'{new}.png')
            parts[split] = {new: boxes[stem] for new, stem in renamed.items()}
            (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(renamed) + '\n')
    (root / 'Annotations').mkdir()
    for boxes in parts.values():
        for stem, listed in boxes.items():
            objects = ''.join(OBJECT.format(*box) for box in listed)
            text = XML.format(name=f'{stem}.png', width=WIDTH, height=HEIGHT, objects=objects)
            (root / 'Annotations' / f'{stem}.xml').write_text(text)
    return parts


def write_csv(root: Path, train: int = 6, val: int = 0) -> dict[str, Boxes]:
    """Write `train_labels.csv` next to `images/`."""
    parts = {'train': write_images(root / 'images' / 'train', train)}
    if val:
        parts['val'] = write_images(root / 'images' / 'val', val, start=100)
    for split, boxes in parts.items():
        lines = ['filename,width,height,class,xmin,ymin,xmax,ymax']
        lines += [
            f'{stem}.png,{WIDTH},{HEIGHT},{name},{x1},{y1},{x2},{y2}'
            for stem, listed in boxes.items()
            for name, x1, y1, x2, y2 in listed
        ]
        (root / f'{split}_labels.csv').write_text('\n'.join(lines) + '\n')
    return parts


WRITERS = dict(coco=write_coco, yolo=write_yolo, voc=write_voc, csv=write_csv)


def boxes_of(split) -> Boxes:
    """Return the boxes of a split as it was read, as those above."""
    names = {category['id']: category['name'] for category in split.content['categories']}
    stems = {image['id']: Path(image['file_name']).stem for image in split.content['images']}
    found: Boxes = {stem: [] for stem in stems.values()}
    for item in split.content['annotations']:
        x, y, w, h = item['bbox']
        found[stems[item['image_id']]].append((names[item['category_id']], x, y, x + w, y + h))
    for image in split.content['images']:
        assert (split.folder / image['file_name']).is_file() and (image['width'], image['height']) == (WIDTH, HEIGHT)
    return found
