"""Check that a dataset has the masks that a model with masks needs, before a run is prepared."""

from __future__ import annotations

from ..datasets.coco_metric import check_masks
from ..datasets.mask_annotations import unusable_masks
from ..errors import RefusedError
from .formats.labelled import Labelled


def check_masks_of(dataset: Labelled, model: str) -> None:
    """Check the masks of a dataset.

    Args:
        dataset: the dataset, with a split to validate on.
        model: name of the model, such as 'ins-tiny'.

    Raises:
        RefusedError: if no object to train on has a usable mask, or an object of another split has none.
    """
    content = dataset.splits['train'].content
    objects = [item for item in content['annotations'] if not item['iscrowd']]
    lost = unusable_masks(content['images'], objects)
    if objects and sum(map(len, lost.values())) == len(objects):
        reasons = '; '.join(f'{len(ids)} that {reason}' for reason, ids in lost.items())
        raise RefusedError(
            f'{dataset.source} ({dataset.kind}) must have objects with masks to train {model}, got only {reasons}; '
            f'write masks as COCO JSON or as polygons of YOLO, or train boxes with --model {model.removeprefix("ins-")}'
        )
    for split, part in dataset.splits.items():
        if split != 'train':
            check_masks(f'{dataset.source}, {split}', part.content)
