"""Turn the network outputs of one image into boxes with NumPy.

The score threshold comes first, so that few candidates are decoded, sorted and compared.

Boxes are xyxy in pixels of the network's input, float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .info import PREFIX, ModelInfo

Candidates = tuple[np.ndarray, ...]
"""Boxes (M, 4), scores (M,), labels (M,), and any further columns (M, ...)."""

BLOCK = 256
"""Number of candidates per step of NMS; their IoUs fit into a core's cache."""


def check_outputs(outputs: Sequence[np.ndarray], info: ModelInfo) -> None:
    """Check that the outputs fit the metadata and contain no NaN.

    Comparisons with NaN are false, so without this check a damaged model would find nothing. The check takes 0.1 ms for
    80 classes and 640 x 640 pixels. If NMS is part of the graph (export formats nms and trt), it hides NaN scores.

    Args:
        outputs: network outputs for one image, without the batch axis.
        info: metadata of the model.

    Raises:
        ValueError: if they don't; the error names the field or the output.
    """
    if len(outputs) != len(info.outputs):
        raise ValueError(
            f'metadata {PREFIX}form and {PREFIX}strides must be those of the network with its {len(outputs)} outputs, '
            f'got {info.form!r} and {info.strides}, which have {len(info.outputs)}'
        )
    for (name, shape), output in zip(info.output_shapes.items(), outputs, strict=True):
        if output.ndim != len(shape) or any(b not in (None, a) for a, b in zip(output.shape, shape, strict=True)):
            wanted = ', '.join('any' if length is None else str(length) for length in shape)
            raise ValueError(
                f'the output {name} of the network must have the shape ({wanted}), got {output.shape}; its metadata '
                f'has {PREFIX}form {info.form!r}, {len(info.classes)} {PREFIX}classes, {PREFIX}input_size '
                f'{info.input_size}, {PREFIX}strides {info.strides}'
            )
        # In the export format trt, values after the first `num_dets` are undefined.
        if info.form != 'trt' and output.size and np.isnan(output.min()):
            raise ValueError(
                f'the output {name} of the network must be numbers, got NaN; the weights are damaged, export it again'
            )


def decode_maps(
    logits: Sequence[np.ndarray],
    distances: Sequence[np.ndarray],
    strides: Sequence[int],
    exp_on_reg: bool,
    score_thr: float,
) -> Candidates:
    """Return the candidates above the score threshold from the maps of the export format `raw`, with their priors.

    `decode` of `rtmdet_plugin.export.forms` does the same in exported graphs, for all priors; a test compares them.

    Args:
        logits: class logits of each level. (C, H_i, W_i)
        distances: distances from the prior to the left, top, right and bottom side of the box for each level, in cells,
            or their logarithms if `exp_on_reg`. (4, H_i, W_i)
        strides: stride of each level in pixels.
        exp_on_reg: whether `distances` are logarithms.
        score_thr: minimum score, exclusive.

    Returns:
        Boxes, scores, labels, and the index of each candidate's prior, see `select_candidates`.
    """
    # The sigmoid of all logits would take longer than the rest of this function, so it is computed only for logits
    # above a threshold, which has a margin for rounding.
    thr = np.clip(score_thr, 1e-9, 1 - 1e-9)
    logit_thr = np.log(thr / (1 - thr)) - 1e-2 if score_thr > 0 else -np.inf
    levels, first = [], 0
    for level_logits, level_distances, stride in zip(logits, distances, strides, strict=True):
        num_classes, height, width = level_logits.shape
        flat = level_logits.reshape(-1)
        index = np.flatnonzero(flat > logit_thr)
        with np.errstate(over='ignore'):  # exp(100) is infinite in float32, which correctly gives a score of 0
            scores = 1 / (1 + np.exp(-flat[index]))
        index, scores = index[scores > score_thr], scores[scores > score_thr]
        labels, cells = np.divmod(index, height * width)
        sides = level_distances.reshape(4, -1)[:, cells]
        sides = (np.exp(sides) if exp_on_reg else sides) * np.float32(stride)
        y, x = np.divmod(cells, width)
        points = np.stack([x, y]).astype(np.float32) * np.float32(stride)
        boxes = np.concatenate([points - sides[:2], points + sides[2:]])
        levels.append((boxes.T, scores, labels, first + cells))
        first += height * width
    height, width = (length * strides[0] for length in logits[0].shape[1:])
    boxes, *columns = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    return boxes.clip(0, np.array([width, height, width, height], np.float32)), *columns


def select_candidates(boxes: np.ndarray, scores: np.ndarray, score_thr: float) -> Candidates:
    """Return the candidates above the score threshold from the outputs of the export format `decoded`.

    Args:
        boxes: boxes of all priors. (N, 4)
        scores: scores of all priors and classes. (N, C)
        score_thr: minimum score, exclusive.

    Returns:
        Boxes, scores, labels, and the index of each candidate's prior: a row of `boxes`. Priors are counted from the
        finest level, row by row.
    """
    index = np.flatnonzero(scores.reshape(-1) > score_thr)
    priors, labels = np.divmod(index, scores.shape[1])
    return boxes[priors], scores.reshape(-1)[index], labels, priors


def class_wise_nms(
    candidates: Candidates, iou_thr: float, nms_pre: int, max_per_img: int, of_smaller: bool = False
) -> Candidates:
    """Remove boxes that overlap a better box of their class (NMS); return the best ones by descending score.

    All classes are processed in one pass, in which boxes of different classes never overlap. It stops when there are
    `max_per_img` boxes, because all others have lower scores. `rtmdet_plugin.compat.nms` is a second NMS in NumPy, with
    mmcv's signature, for PyTorch; a test compares the two.

    Args:
        candidates: candidates in any order; all columns are returned for the boxes that are kept.
        iou_thr: a box is removed if its IoU with a better box of its class is above it.
        nms_pre: maximum number of candidates, those with the highest scores.
        max_per_img: maximum number of boxes to return.
        of_smaller: compare the intersection with the smaller box instead of the union, so that a part of a box is
            removed.
    """
    boxes, scores = candidates[:2]
    order = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if len(order) > nms_pre:
        best = np.argpartition(scores[order], -nms_pre)[-nms_pre:]
        best.sort()  # equal scores keep their order
        order = order[best]
    candidates = take(candidates, order[np.argsort(-scores[order], kind='stable')])
    boxes, scores, labels = candidates[:3]
    kept = np.empty(0, np.intp)
    for start in range(0, len(scores), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(scores)))
        block = block[~overlaps(boxes, labels, kept, block, iou_thr, of_smaller).any(0)]
        pairs = np.triu(overlaps(boxes, labels, block, block, iou_thr, of_smaller), 1)
        alive = np.ones(len(block), bool)
        for row in np.flatnonzero(pairs.any(1)):
            if alive[row]:
                alive &= ~pairs[row]
        kept = np.concatenate([kept, block[alive]])
        if len(kept) >= max_per_img:
            break
    return take(candidates, kept[:max_per_img])


def take(candidates: Candidates, kept: np.ndarray) -> Candidates:
    """Return some of the candidates, given their indices or a boolean for each."""
    return tuple(column[kept] for column in candidates)


def overlaps(
    boxes: np.ndarray, labels: np.ndarray, one: np.ndarray, two: np.ndarray, iou_thr: float, of_smaller: bool
) -> np.ndarray:
    """Compare the boxes with the indices `one` to those with the indices `two`.

    Returns:
        Whether the boxes of each pair have the same class and an IoU above the threshold; if `of_smaller`, an
        intersection above this share of the smaller box. (len(one), len(two))
    """
    a, b = boxes[one].T[:, :, None], boxes[two].T[:, None]
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    whole = np.minimum(*areas) if of_smaller else areas[0] + areas[1] - intersection
    return (intersection / whole > np.float32(iou_thr)) & (labels[one][:, None] == labels[two])
