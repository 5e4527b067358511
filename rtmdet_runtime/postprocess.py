"""Network outputs of one picture to boxes, in numpy: thresholds first, so that little is decoded, sorted and compared.

Boxes are xyxy in pixels of the network's input, float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .info import PREFIX, ModelInfo

Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Boxes (M, 4), scores (M,), labels (M,)."""

BLOCK = 256
"""Candidates whose fate is settled together; their IoUs fit into a core's cache."""


def check_outputs(outputs: Sequence[np.ndarray], info: ModelInfo) -> None:
    """Refuse outputs that aren't those of which the metadata tells, or that hold NaN.

    NaN compares as below any threshold, so that a damaged model would find nothing. The check takes 0.1 ms for 80
    classes and 640 x 640 pixels. NMS within the graph (forms nms and trt) hides NaN scores from it.

    Args:
        outputs: of one image, without the batch axis.
        info: the metadata.

    Raises:
        ValueError: it names the field or the output.
    """
    if len(outputs) != len(info.outputs):
        raise ValueError(
            f'metadata {PREFIX}form and {PREFIX}strides must be those of the network with its {len(outputs)} outputs, '
            f'got {info.form!r} and {info.strides}, which make {len(info.outputs)}'
        )
    for name, output, shape in zip(info.outputs, outputs, info.output_shapes, strict=True):
        if output.ndim != len(shape) or any(b not in (None, a) for a, b in zip(output.shape, shape, strict=True)):
            wanted = ', '.join('any' if length is None else str(length) for length in shape)
            raise ValueError(
                f'the output {name} of the network must have the shape ({wanted}), got {output.shape}; its metadata '
                f'says so: {PREFIX}form {info.form!r}, {len(info.classes)} {PREFIX}classes, {PREFIX}input_size '
                f'{info.input_size}, {PREFIX}strides {info.strides}'
            )
        # What trt has behind its count isn't defined.
        if info.form != 'trt' and output.size and np.isnan(output.min()):
            raise ValueError(
                f'the output {name} of the network must be numbers, got NaN: its weights are damaged; export it again'
            )


def decode_maps(
    logits: Sequence[np.ndarray],
    distances: Sequence[np.ndarray],
    strides: Sequence[int],
    exp_on_reg: bool,
    score_thr: float,
) -> Candidates:
    """Return the candidates above the score threshold from the maps of the export format `raw`.

    `decode` of `rtmdet_plugin.export.forms` does the same in exported graphs, for all priors; a test compares them.

    Args:
        logits: of each level. (C, H_i, W_i)
        distances: to the left, top, right and bottom side, in cells or (`exp_on_reg`) their logarithms. (4, H_i, W_i)
        strides: of each level in pixels.
        exp_on_reg: whether `distances` are logarithms.
        score_thr: scores must be above it.
    """
    # The sigmoid of everything would take longer than the rest: a threshold for the logits, with room for rounding,
    # picks what it is computed for.
    thr = np.clip(score_thr, 1e-9, 1 - 1e-9)
    logit_thr = np.log(thr / (1 - thr)) - 1e-2 if score_thr > 0 else -np.inf
    levels = []
    for level_logits, level_distances, stride in zip(logits, distances, strides, strict=True):
        num_classes, height, width = level_logits.shape
        flat = level_logits.reshape(-1)
        index = np.flatnonzero(flat > logit_thr)
        with np.errstate(over='ignore'):  # exp(100) is infinite in float32, and the score 0 as it should be
            scores = 1 / (1 + np.exp(-flat[index]))
        index, scores = index[scores > score_thr], scores[scores > score_thr]
        labels, cells = np.divmod(index, height * width)
        sides = level_distances.reshape(4, -1)[:, cells]
        sides = (np.exp(sides) if exp_on_reg else sides) * np.float32(stride)
        y, x = np.divmod(cells, width)
        points = np.stack([x, y]).astype(np.float32) * np.float32(stride)
        boxes = np.concatenate([points - sides[:2], points + sides[2:]])
        levels.append((boxes.T, scores, labels))
    height, width = (length * strides[0] for length in logits[0].shape[1:])
    boxes, scores, labels = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    return boxes.clip(0, np.array([width, height, width, height], np.float32)), scores, labels


def select_candidates(boxes: np.ndarray, scores: np.ndarray, score_thr: float) -> Candidates:
    """Candidates above the score threshold from the form `decoded`.

    Args:
        boxes: of all priors. (N, 4)
        scores: of all classes. (N, C)
        score_thr: scores must be above it.
    """
    index = np.flatnonzero(scores.reshape(-1) > score_thr)
    priors, labels = np.divmod(index, scores.shape[1])
    return boxes[priors], scores.reshape(-1)[index], labels


def class_wise_nms(candidates: Candidates, iou_thr: float, nms_pre: int, max_per_img: int) -> Candidates:
    """The best boxes, by score downwards, none of which overlaps a better one of its class by more than the threshold.

    All classes in one pass: boxes of different classes don't overlap by definition. It ends as soon as it has
    `max_per_img` boxes, because those that come later have lower scores. `rtmdet_plugin.compat.nms` is a second NMS in
    NumPy, with mmcv's signature, for PyTorch; a test compares the two.

    Args:
        candidates: in any order.
        iou_thr: of boxes of one class.
        nms_pre: the candidates that take part: those with the highest scores.
        max_per_img: boxes to return, at most.
    """
    boxes, scores, labels = candidates
    valid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, labels = boxes[valid], scores[valid], labels[valid]
    if len(scores) > nms_pre:
        best = np.argpartition(scores, -nms_pre)[-nms_pre:]
        best.sort()  # equal scores stay in their order
        boxes, scores, labels = boxes[best], scores[best], labels[best]
    order = np.argsort(-scores, kind='stable')
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    kept = np.empty(0, np.intp)
    for start in range(0, len(scores), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(scores)))
        block = block[~overlaps(boxes, labels, kept, block, iou_thr).any(0)]
        pairs = np.triu(overlaps(boxes, labels, block, block, iou_thr), 1)
        alive = np.ones(len(block), bool)
        for row in np.flatnonzero(pairs.any(1)):
            if alive[row]:
                alive &= ~pairs[row]
        kept = np.concatenate([kept, block[alive]])
        if len(kept) >= max_per_img:
            break
    kept = kept[:max_per_img]
    return boxes[kept], scores[kept], labels[kept]


def overlaps(boxes: np.ndarray, labels: np.ndarray, one: np.ndarray, two: np.ndarray, iou_thr: float) -> np.ndarray:
    """Find pairs of boxes of one class with an IoU above the threshold, given by their indices `one` and `two`.

    Returns:
        Whether each pair is one. (len(one), len(two))
    """
    a, b = boxes[one].T[:, :, None], boxes[two].T[:, None]
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return (intersection / union > np.float32(iou_thr)) & (labels[one][:, None] == labels[two])
