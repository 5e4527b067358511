"""Find objects in the images of a dataset, to evaluate a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rtmdet_runtime import RTMDetector

from ..datasets.bad_samples import error_message
from ..datasets.mask_annotations import unscorable_masks
from ..export.metadata import numbered_classes
from ..transforms.decoding import BadImageError
from ..transforms.loading import load_image
from .quiet import progress


def detect(
    detector: RTMDetector, truth: Mapping[str, Sequence[Mapping]], batch_size: int = 1
) -> tuple[list[dict], dict[str, str]]:
    """Find objects in the images of a dataset.

    Args:
        detector: the model. Its classes are matched to the categories by name; those of its classes that aren't among
            the categories are dropped.
        truth: COCO's lists `images`, with a path as `file_name`, and `categories`.
        batch_size: number of images that the network gets at once; ignored if the model has a fixed batch size.

    Returns:
        found: detections: dicts with `image_id`, `category_id`, `bbox` (xywh in pixels) and `score`; with masks also
            with `segmentation`, a run-length code.
        bad: reason by file, for each image that can't be read or has another size than `truth` says. Nothing is found
            in it.

    Raises:
        ValueError: see `category_of_label`.
    """
    categories = category_of_label(detector.info.classes, truth['categories'])
    images = truth['images']
    step = detector.backend.batch or batch_size
    found: list[dict] = []
    bad: dict[str, str] = {}
    with progress(len(images)) as report:
        for start in range(0, len(images), step):
            readable = {}
            for image in images[start : start + step]:
                path = image['file_name']
                try:
                    readable[image['id']] = load_image(dict(image, img_path=path))
                except (BadImageError, OSError) as error:
                    bad[path] = error_message(path, error)
            for image_id, boxes in zip(readable, detector.predict(list(readable.values()), step), strict=True):
                found += boxes.to_coco(image_id, categories)
            report(start + step)
    return found, bad


def masks_to_compare(detector: RTMDetector, truth: Mapping[str, Sequence[dict]]) -> tuple[bool, str]:
    """Return whether AP of masks can be computed, and a sentence about it if only the model has masks.

    Args:
        detector: the model.
        truth: COCO's lists, complete as `read_coco_file` returns them.
    """
    if not detector.info.mask_stride:
        return False, ''
    lost = '; '.join(
        f'{len(ids)} {reason}' for reason, ids in unscorable_masks(truth['images'], truth['annotations']).items()
    )
    return not lost, lost and f'AP is that of boxes only, because objects have no mask to compare with: {lost}'


def category_of_label(classes: Sequence[str], categories: Sequence[Mapping]) -> list[int | None]:
    """Return the id of the category that has the name of each class of a model; None if there is none.

    If the model's classes are named by numbers, the categories are taken in their order.

    Raises:
        ValueError: if a category isn't among the classes, or their number differs from that of classes without names.
    """
    ids = {category['name']: category['id'] for category in categories}
    if tuple(classes) == numbered_classes(len(classes)):
        if len(ids) != len(classes):
            raise ValueError(
                f'the model must have the {len(ids)} classes of the data ({", ".join(ids)}), got {len(classes)} '
                'classes without names'
            )
        return list(ids.values())
    missing = [name for name in ids if name not in classes]
    if missing:
        raise ValueError(
            f'the model must have the classes of the data ({", ".join(ids)}), got no {", ".join(missing)} among its '
            f'classes ({", ".join(classes)}); rename them in the data, or choose those to evaluate with --classes'
        )
    return [ids.get(name) for name in classes]
