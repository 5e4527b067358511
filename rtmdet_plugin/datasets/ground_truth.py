"""Ground truth to evaluate on: COCO's lists with the paths of the images and the classes in the order of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def ground_truth(
    content: Mapping[str, Sequence[dict]], paths: Mapping[int | str, str], ids: Mapping[str, int]
) -> dict[str, list[dict]]:
    """Return the part of COCO's lists that is evaluated.

    Args:
        content: COCO's lists.
        paths: path of each image that is used, by its id.
        ids: category id of each class that is used, by its name, in the order of the labels.

    Returns:
        `images`, whose `file_name` is the path; `annotations` of these images and classes; `categories` in the order
        of the labels.
    """
    used = set(ids.values())
    return dict(
        images=[dict(image, file_name=paths[image['id']]) for image in content['images'] if image['id'] in paths],
        annotations=[
            item for item in content['annotations'] if item['image_id'] in paths and item['category_id'] in used
        ],
        categories=[dict(id=i, name=name) for name, i in ids.items()],
    )
