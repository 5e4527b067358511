"""COCO's lists for tests of `rtmdet_plugin.evaluation`, from a few tuples or at random."""

import numpy as np

from rtmdet_plugin.evaluation.boxes import Boxes, boxes_of

NAMES = ('cat', 'dog', 'cow')


def truth_of(*objects: tuple, images: int = 3) -> dict[str, list[dict]]:
    """Return ground truth with these objects: (image, class, xywh), and True as a fourth entry for a crowd."""
    annotations = [
        dict(id=i, image_id=image, category_id=7 * NAMES.index(name), bbox=list(box), iscrowd=int(any(crowd)))
        for i, (image, name, box, *crowd) in enumerate(objects)
    ]
    categories = [dict(id=7 * i, name=name) for i, name in enumerate(NAMES)]
    return dict(images=[dict(id=i) for i in range(images)], annotations=annotations, categories=categories)


def found_of(*detections: tuple) -> list[dict]:
    """Return these detections: (image, class, xywh, score)."""
    return [
        dict(image_id=image, category_id=7 * NAMES.index(name), bbox=list(box), score=score)
        for image, name, box, score in detections
    ]


def arrays_of(objects: list[tuple], detections: list[tuple]) -> tuple[Boxes, Boxes]:
    """Return both as arrays; see `truth_of` and `found_of`."""
    truth = truth_of(*objects)
    return boxes_of(truth['annotations'], truth), boxes_of(found_of(*detections), truth)


def random_lists(seed: int, images: int = 12, detections: int = 15) -> tuple[dict[str, list[dict]], list[dict]]:
    """Return ground truth, and detections near it: shifted, of another class, repeated, with equal scores."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(images):
        boxes = [(*rng.integers(0, 60, 2).tolist(), *rng.integers(4, 120, 2).tolist()) for _ in range(rng.integers(7))]
        names = [NAMES[i] for i in rng.integers(0, 2, len(boxes))]  # no cow
        objects += [(image, name, box, bool(rng.random() < 0.15)) for name, box in zip(names, boxes, strict=True)]
        for _ in range(rng.integers(detections)):
            place = rng.integers(len(boxes) + 1)
            box = np.array(boxes[place] if place < len(boxes) else (50, 50, 30, 30), float)
            name = names[place] if place < len(boxes) and rng.random() < 0.7 else NAMES[rng.integers(3)]
            box = box * rng.uniform(0.8, 1.25, 4) if rng.random() < 0.7 else box
            found.append((image, name, box.round(rng.integers(3)).tolist(), rng.integers(1, 30) / 30))
    return truth_of(*objects, images=images), found_of(*(found[i] for i in rng.permutation(len(found))))
