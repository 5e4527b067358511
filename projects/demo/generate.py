"""Generate labelled images of four coloured shapes as a COCO dataset: the demo needs no download.

Each image depends on `(seed, split, index)` only: the same settings give the same bytes, and a longer dataset begins
with the shorter one. A box is the extent of a shape's *visible* pixels; the polygons contain exactly these pixels.

    python projects/demo/generate.py work_dirs/demo/data
"""

import argparse
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('circle', 'square', 'triangle', 'cross')
HUES = (0, 110, 60, 25)  # by class, in OpenCV's 0..179; red, blue, green, yellow
SPLITS = ('train', 'val')


def on_circle(corners: int, first: float) -> np.ndarray:
    """Compute the (corners, 2) corners of a regular polygon in the unit circle, the first at angle `first`."""
    angle = first + np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


# y points down. (corners, 2), within the unit circle
CORNERS = {
    'circle': on_circle(48, 0),
    'square': on_circle(4, np.pi / 4),
    'triangle': on_circle(3, -np.pi / 2),
    'cross': 0.32
    * np.array(
        [(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1)] + [(1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)]
    ),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a dataset; stored next to it, and compared before it is reused."""

    train: int = 400
    val: int = 96
    size: int = 128  # width and height of an image, in pixels
    max_objects: int = 5
    empty_share: float = 0.06  # share of images without any shape
    min_diameter: float = 28.0  # of a shape, in pixels
    max_diameter: float = 72.0
    max_turn: float = 0.25  # radians from upright
    min_visible: float = 0.9  # share of a shape that later shapes must leave uncovered
    seed: int = 0
    version: int = 3  # raise it if images or labels change


def texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw smooth, nearly grey float32 noise (size, size, 3) in several octaves."""
    ground = np.zeros((size, size, 3), np.float32)
    for cells in (2, 5, 12, 40):
        noise = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        ground += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) * rng.uniform(2, 8)
    return ground + np.float32(rng.uniform(70, 185)) + rng.uniform(-15, 15, 3).astype(np.float32)


def outline(label: int, centre: np.ndarray, diameter: float, angle: float) -> np.ndarray:
    """Compute the (corners, 2) integer corners of a shape for `cv2.fillPoly`; it is upright at angle 0."""
    points = CORNERS[CLASSES[label]]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = points @ np.array([[cos, sin], [-sin, cos]])
    return np.round(centre + diameter / 2 * turned).astype(np.int32)


def colour(rng: np.random.Generator, label: int) -> np.ndarray:
    """Choose a bright float32 BGR colour (3,) of the class's hue."""
    hue = (HUES[label] + rng.integers(-6, 7)) % 180
    hsv = np.array([[[hue, rng.integers(170, 256), rng.integers(150, 256)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


def draw(rng: np.random.Generator, settings: Settings) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draw one image.

    Returns:
        image: BGR, uint8. (size, size, 3)
        ids: number of the shape that is visible at each pixel, from 1; 0 for the background. (size, size)
        labels: label of each shape; shape n has the label at n - 1.
    """
    size = settings.size
    image = texture(rng, size)
    ids = np.zeros((size, size), np.int32)
    labels, areas = [], []
    wanted = 0 if rng.random() < settings.empty_share else int(rng.integers(1, settings.max_objects + 1))
    for _ in range(20 * wanted):
        if len(labels) == wanted:
            break
        label = int(rng.integers(len(CLASSES)))
        diameter = float(np.exp(rng.uniform(np.log(settings.min_diameter), np.log(settings.max_diameter))))
        centre = rng.uniform(diameter / 2, size - diameter / 2, 2)
        mask = np.zeros((size, size), np.uint8)
        cv2.fillPoly(mask, [outline(label, centre, diameter, rng.uniform(-settings.max_turn, settings.max_turn))], 1)
        mask = mask.astype(bool)
        left = np.bincount(ids[~mask], minlength=len(labels) + 1)[1:]
        if np.any(left < settings.min_visible * np.array(areas)):
            continue
        labels.append(label)
        areas.append(int(mask.sum()))
        ids[mask] = len(labels)
        shade = cv2.resize(rng.uniform(-25, 25, (2, 2)).astype(np.float32), (size, size))
        image[mask] = colour(rng, label) + shade[mask][:, None]
    image = cv2.GaussianBlur(image, (0, 0), 0.6) + rng.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), ids, labels


def visible_boxes(ids: np.ndarray) -> list[list[int]]:
    """Compute the extent of each shape's visible pixels: x, y, width, height in pixels, as in COCO."""
    boxes = []
    for n in range(1, ids.max() + 1):
        x, y, width, height = cv2.boundingRect((ids == n).astype(np.uint8))
        boxes.append([x, y, width, height])
    return boxes


def polygons(visible: np.ndarray) -> list[list[int]]:
    """Compute polygons along the edges of a mask's pixels.

    Args:
        visible: whether a pixel belongs to the mask. (height, width)

    Returns:
        x1, y1, x2, y2, ... in pixels of each polygon, as in COCO. A mask with a hole is cut in two through the hole.
    """
    enlarged = visible.astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1)  # contours pass through centres of pixels
    contours, tree = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True):
        if parent >= 0:  # the contour of a hole
            x = int(contour[..., 0].min() + contour[..., 0].max()) // 6
            columns = np.arange(visible.shape[1])
            return polygons(visible & (columns < x)) + polygons(visible & (columns >= x))
    return [((contour + 1) // 3).ravel().tolist() for contour in contours]


def write_split(folder: Path, split: str, settings: Settings) -> None:
    """Write the images `<split>/*.jpg` and the labels `<split>.json`."""
    (folder / split).mkdir(parents=True)
    images, annotations = [], []
    for index in range(getattr(settings, split)):
        rng = np.random.default_rng((settings.seed, SPLITS.index(split), index))
        image, ids, labels = draw(rng, settings)
        name = f'{index:06d}.jpg'
        cv2.imwrite(str(folder / split / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append(dict(id=index, file_name=name, width=settings.size, height=settings.size))
        for n, (box, label) in enumerate(zip(visible_boxes(ids), labels, strict=True), start=1):
            visible = ids == n
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=label + 1,
                    bbox=box,
                    segmentation=polygons(visible),
                    area=int(visible.sum()),
                    iscrowd=0,
                )
            )
    categories = [dict(id=n, name=name) for n, name in enumerate(CLASSES, start=1)]
    labels_file = folder / f'{split}.json'
    labels_file.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def generate(folder: Path, settings: Settings) -> bool:
    """Write the dataset unless an equal one exists; return whether it was written.

    It is written to a temporary folder and renamed once complete: an interrupted run leaves no partial dataset.

    Raises:
        ValueError: if `folder` holds something that isn't a dataset of this generator.
    """
    stamp = folder / 'settings.json'
    if stamp.is_file() and json.loads(stamp.read_text()) == asdict(settings):
        return False
    if folder.exists() and not stamp.is_file() and any(folder.iterdir()):
        raise ValueError(f'folder must be new, empty or a dataset of this generator, got {folder}')
    unfinished = folder.with_name(folder.name + '.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    for split in SPLITS:
        write_split(unfinished, split, settings)
    (unfinished / stamp.name).write_text(json.dumps(asdict(settings), indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return True


def main() -> None:
    """Generate the dataset that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--train', type=int, default=Settings.train, help='number of training images')
    parser.add_argument('--val', type=int, default=Settings.val, help='number of validation images')
    parser.add_argument('--seed', type=int, default=Settings.seed)
    args = parser.parse_args()
    settings = Settings(train=args.train, val=args.val, seed=args.seed)
    written = generate(args.folder, settings)
    print(f'{args.folder}: {"written" if written else "unchanged"}, {settings}')


if __name__ == '__main__':
    main()
