"""Split off validation images from a dataset that has none."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from ..errors import RefusedError
from .formats.labelled import Labelled, Split
from .similar_images import similar_groups

VAL_FRACTION = 0.2


def with_validation(dataset: Labelled, fraction: float | None, seed: int) -> Labelled:
    """Return a dataset with a validation split: its own, or else a part of its training images.

    Images that look alike, and Roboflow's copies of an image, stay together; see `similar_groups`.

    Args:
        dataset: dataset with training images.
        fraction: share of the training images, between 0 and 1; None for `VAL_FRACTION`.
        seed: seed of the selection.

    Raises:
        RefusedError: if the fraction isn't between 0 and 1, or a split would have no objects.
    """
    if 'val' in dataset.splits:
        if fraction is None:
            return dataset
        note = f'val-fraction={fraction} has no effect, because there is a validation split'
        return dataclasses.replace(dataset, notes=[*dataset.notes, note])
    fraction = VAL_FRACTION if fraction is None else fraction
    if not 0 < fraction < 1:
        raise RefusedError(f'val-fraction must be between 0 and 1, got {fraction}')
    train = dataset.splits['train']
    images = train.content['images']
    if len(images) < 2:
        raise RefusedError(f'{dataset.source} must have at least 2 images, to train and to validate, got {len(images)}')
    sides = [min(image['width'], image['height']) for image in images]
    groups = similar_groups([train.folder / image['file_name'] for image in images], sides).tolist()
    chosen = choose(groups, max(1, round(fraction * len(images))), seed)
    parts = {
        'train': _part(train, {image['id'] for place, image in enumerate(images) if place not in chosen}),
        'val': _part(train, {image['id'] for place, image in enumerate(images) if place in chosen}),
    }
    for name, part in parts.items():
        if not part.content['annotations']:
            raise RefusedError(
                f'{name} must have objects, got {len(part.content["images"])} images without; set another seed'
            )
    alike = len(images) - len(set(groups))
    note = f'there is no validation split, so {len(chosen)} of {len(images)} images were taken for it (seed {seed}); '
    if len(set(groups)) > 1:
        note += f'images that look alike are in the same split ({alike} look like another one)'
    else:
        note += 'all images look alike, so both splits have such images, and AP will be too high for other images'
    return dataclasses.replace(dataset, splits={**dataset.splits, **parts}, notes=[*dataset.notes, note])


def choose(groups: Sequence[int], count: int, seed: int) -> set[int]:
    """Return the positions of about `count` images, without separating a group.

    If all images are one group, it is separated: without a split there would be no validation.
    """
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    parts = list(members.values()) if len(members) > 1 else [[place] for place in members.popitem()[1]]
    random.Random(seed).shuffle(parts)
    chosen: set[int] = set()
    for part in parts:
        if len(chosen) + len(part) <= count:
            chosen.update(part)
    return chosen or set(min(parts, key=len))


def _part(split: Split, ids: set[int]) -> Split:
    """Return the images with these ids and their annotations."""
    content = dict(
        split.content,
        images=[image for image in split.content['images'] if image['id'] in ids],
        annotations=[item for item in split.content['annotations'] if item['image_id'] in ids],
    )
    return Split(content, split.folder)
