"""Training batches of mmyolo: the objects of all images as one tensor, made by its `yolov5_collate`."""

from mmengine.structures import InstanceData


def unpack_batch(batch: dict) -> tuple[list[InstanceData], list[dict]]:
    """Split a batch into what heads of mmdet take.

    Args:
        batch: result of mmyolo's `YOLOv5DetDataPreprocessor`: `bboxes_labels`, rows of image, label, x1, y1, x2, y2 in
            pixels (M, 6), and `img_metas` with `batch_input_shape` (height, width).

    Returns:
        `bboxes` (N_i, 4) and `labels` (N_i,) of each image; and the metas with `pad_shape`.

    Raises:
        ValueError: if the rows don't have six columns.
    """
    rows, metas = batch['bboxes_labels'], batch['img_metas']
    if rows.ndim != 2 or rows.size(1) != 6:
        raise ValueError(
            f'bboxes_labels must be rows of image, label, x1, y1, x2, y2, got {tuple(rows.shape)}; rotated boxes are '
            'not supported'
        )
    image = rows[:, 0].long()
    parts = rows[image.argsort(stable=True)].split(image.bincount(minlength=len(metas)).tolist())
    instances = [InstanceData(bboxes=part[:, 2:], labels=part[:, 1].long()) for part in parts]
    return instances, [{**meta, 'pad_shape': tuple(meta['batch_input_shape'])} for meta in metas]
