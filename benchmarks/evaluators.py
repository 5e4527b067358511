"""Measure AP by pycocotools and by faster-coco-eval, and the rest of `rtmdet val`, on results of the size of val2017.

    pip install faster-coco-eval
    python benchmarks/evaluators.py

5,000 generated images with 36,000 objects of 80 classes, and 100 detections per image. Writes
benchmarks/results/evaluators_<device>_<machine>.json with medians of alternating runs and the largest difference of all
numbers.
"""

import argparse
from dataclasses import astuple
from functools import partial

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
from harness import costs, milliseconds
from results import report

from rtmdet_plugin.evaluation import coco_ap
from rtmdet_plugin.evaluation.boxes import Boxes
from rtmdet_plugin.evaluation.error_kinds import error_kinds
from rtmdet_plugin.evaluation.matching import match

IMAGES, OBJECTS, CLASSES, DETECTIONS = 5000, 36_000, 80, 100


def generate(images: int) -> tuple[Boxes, Boxes]:
    """Generate objects and detections: half of the objects are found, with boxes that are more or less right."""
    rng = np.random.default_rng(0)
    count = OBJECTS * images // IMAGES
    xywh = np.concatenate([rng.uniform(0, 500, (count, 2)), rng.lognormal(4, 0.9, (count, 2)).clip(4, 600)], 1)
    label = (rng.pareto(1, count) * 5).astype(int) % CLASSES
    image = rng.integers(0, images, count)
    crowd = rng.random(count) < 0.01
    objects = Boxes(image, label, xywh, np.ones(count), xywh[:, 2:].prod(1) * 0.7, crowd)
    total = DETECTIONS * images
    source = rng.integers(0, count, total)  # each object has about 14 detections
    noise = rng.normal(0, rng.uniform(0.02, 0.8, (total, 1)), (total, 4))
    found = xywh[source] * np.exp(noise * [0.2, 0.2, 1, 1]) + noise * 20 * [1, 1, 0, 0]
    other = rng.random(total) < 0.3
    labels = np.where(other, rng.integers(0, CLASSES, total), label[source])
    score = np.exp(-5 * np.abs(noise).mean(1)) * rng.uniform(0.2, 1, total) * np.where(other, 0.3, 1)
    detections = Boxes(image[source], labels, found, score.round(4), found[:, 2:].prod(1), np.zeros(total, bool))
    return objects, detections


def main() -> None:
    """Measure, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=IMAGES, help='number of images')
    parser.add_argument('--repeats', type=int, default=3, help='number of runs of each evaluator')
    arguments = parser.parse_args()
    try:
        import faster_coco_eval
    except ImportError:
        print('not measured: pip install faster-coco-eval')
        return
    objects, detections = generate(arguments.images)
    packages = {
        'pycocotools': (pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
        'faster-coco-eval': (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
    }
    numbers = {}

    def measured(name: str) -> None:
        coco_ap.COCO, coco_ap.COCOeval = packages[name]
        numbers[name] = coco_ap.coco_ap(objects, detections, CLASSES)

    def rest() -> None:
        error_kinds(objects, detections, match(objects, detections))

    candidates = {name: partial(measured, name) for name in packages}
    taken = costs({**candidates, 'matching and kinds of errors': rest}, arguments.repeats)
    times = {name: milliseconds(measured) for name, measured in taken.items()}
    flat = [np.hstack(astuple(numbers[name])) for name in packages]
    same_gaps = np.isnan(flat[0]) == np.isnan(flat[1])
    difference = float(np.nanmax(np.abs(flat[0] - flat[1]))) if same_gaps.all() else float('inf')
    rows = [
        dict(
            what=name,
            **value,
            times=times['pycocotools']['ms'] / value['ms'] if name in packages else 'not compared',
            difference=difference if name == 'faster-coco-eval' else 'not compared',
            AP=numbers[name].ap if name in packages else 'not computed',
        )
        for name, value in times.items()
    ]
    report('evaluators', rows)


if __name__ == '__main__':
    main()
