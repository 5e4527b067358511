"""Compute masks from the network's outputs with NumPy: logits of the prototypes' cells, then pixels of the image.

Each mask is interpolated once, from cells straight to pixels, and only around its cells above the threshold. Memory is
bounded: some masks at a time, some columns of a mask at a time, and the result is run lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .image import Placement
from .info import ModelInfo
from .mask_kernel import CHANNELS, COORDINATE_UNIT, KERNEL_PARTS, NUM_PROTOTYPES
from .masks import Masks, edges_of, runs_of

MAX_CELLS = 2**19
"""Cells of masks that are in memory at a time."""
MAX_PIXELS = 2**21
"""Pixels of a mask that are in memory at a time."""
LIMIT = 1e6
"""Largest logit: an infinite one, of a network in float16, would make its neighbours NaN."""


def decode_masks(outputs: Sequence[np.ndarray], rows: np.ndarray, info: ModelInfo, placement: Placement) -> Masks:
    """Compute the masks of some boxes of an image.

    Args:
        outputs: network outputs for one image, without the batch axis; see `ModelInfo.outputs`.
        rows: index of each box's prior; in the export format `nms` its row. (n,)
        info: metadata of the model.
        placement: the image's size, and its scale in the network's input.
    """
    runs: list[np.ndarray] = []
    threshold = math.log(info.mask_thr / (1 - info.mask_thr))
    scale_x, scale_y = placement.scale
    cells_per_pixel = scale_y / info.mask_stride, scale_x / info.mask_stride
    step = max(1, MAX_CELLS // math.prod(info.level_sizes[0]))
    for part in (rows[start : start + step] for start in range(0, len(rows), step)):
        if info.form == 'nms':
            logits = outputs[-1][part]
        else:
            kernels = kernels_of(outputs, part, info)
            logits = mask_logits(outputs[-1], kernels, points_of(part, info), info.mask_stride)
        runs += encode_masks(logits, placement.size, cells_per_pixel, threshold)
    return Masks(runs, placement.size)


def kernels_of(outputs: Sequence[np.ndarray], priors: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Return the kernels of some priors, (n, 169), from the outputs of the export format `raw` or `decoded`."""
    if info.form == 'decoded':
        return outputs[2][priors]
    kernels = np.empty((len(priors), sum(KERNEL_PARTS)), np.float32)
    first, levels = 0, len(info.strides)
    for maps in outputs[2 * levels : 3 * levels]:
        flat = maps.reshape(len(maps), -1)
        here = (priors >= first) & (priors < first + flat.shape[1])
        kernels[here] = flat[:, priors[here] - first].T
        first += flat.shape[1]
    return kernels


def points_of(priors: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Return x, y and stride of some priors in pixels of the network's input, float32, (n, 3)."""
    counts = [height * width for height, width in info.level_sizes]
    level = np.repeat(np.arange(len(counts)), counts)[priors]
    cells = priors - np.cumsum([0, *counts[:-1]])[level]
    strides = np.array(info.strides)[level]
    y, x = np.divmod(cells, np.array([width for _, width in info.level_sizes])[level])
    return np.stack([x * strides, y * strides, strides], axis=1).astype(np.float32)


def mask_logits(prototypes: np.ndarray, kernels: np.ndarray, points: np.ndarray, stride: int) -> np.ndarray:
    """Compute the mask logits of an image's instances: three layers whose weights are those of the instance.

    `mask_logits` of `rtmdet_plugin.models.dynamic_conv` does the same in PyTorch; a test compares them.

    Args:
        prototypes: the image's prototypes, float32. (NUM_PROTOTYPES, H, W)
        kernels: weights and biases of each instance, see `KERNEL_PARTS`. (n, 169)
        points: x, y and stride of each instance's prior in pixels. (n, 3)
        stride: stride of the prototypes in pixels.

    Returns:
        Logits at the upper left corners of the prototypes' cells. (n, H, W)
    """
    return apply_kernels(with_coordinates(prototypes, stride), placed_kernels(kernels, points))


def placed_kernels(kernels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return kernels whose first layer takes coordinates in pixels instead of those relative to the prior.

    Relative coordinates are linear in those of the cell and of the prior; the prior's part goes to the bias.

    Args:
        kernels: see `KERNEL_PARTS`. (n, 169)
        points: x, y and stride of each kernel's prior in pixels. (n, 3)
    """
    n, kernels = len(kernels), kernels.copy()
    first, _, _, first_bias, *_ = np.split(kernels, np.cumsum(KERNEL_PARTS)[:-1], axis=1)  # views
    to_cell = first.reshape(n, CHANNELS, 2 + NUM_PROTOTYPES)[..., :2]
    to_cell /= -COORDINATE_UNIT * points[:, 2, None, None]
    first_bias -= (to_cell * points[:, None, :2]).sum(axis=2)
    return kernels


def with_coordinates(prototypes: np.ndarray, stride: int) -> np.ndarray:
    """Put x and y of the cells' upper left corners in pixels before the prototypes (8, H, W), float32. (10, H, W)."""
    y, x = np.indices(prototypes.shape[1:], np.float32) * np.float32(stride)
    return np.concatenate([[x, y], prototypes])


def apply_kernels(inputs: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Compute mask logits (n, H, W) from the results of `with_coordinates` and `placed_kernels`."""
    n, (height, width) = len(kernels), inputs.shape[1:]
    first, second, third, *biases = np.split(kernels, np.cumsum(KERNEL_PARTS)[:-1], axis=1)
    # All instances share the inputs of the first layer, which is one matrix product.
    hidden = first.reshape(-1, len(inputs)) @ inputs.reshape(len(inputs), -1)
    hidden = relu(hidden.reshape(n, CHANNELS, -1), biases[0])
    hidden = relu(second.reshape(n, CHANNELS, CHANNELS) @ hidden, biases[1])
    return (third[:, None] @ hidden + biases[2][..., None]).reshape(n, height, width)


def relu(values: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Add a bias (n, C) to values (n, C, L), replace negative ones by 0, and return the same array."""
    values += bias[..., None]
    return np.maximum(values, 0, out=values)


def encode_masks(
    logits: np.ndarray,
    size: tuple[int, int],
    cells_per_pixel: tuple[float, float],
    threshold: float,
    max_pixels: int = MAX_PIXELS,
) -> list[np.ndarray]:
    """Enlarge mask logits to the size of an image, and encode the pixels above a threshold.

    Each mask is interpolated once, and only around its cells above the threshold, some columns at a time. Beyond these
    cells and their neighbours no interpolated value can be above it, so the result is that of the entire image.

    Args:
        logits: mask logits of each instance, float32. (n, h, w)
        size: (height, width) of the image in pixels. The logits may extend beyond the image, on the right and below.
        cells_per_pixel: height and width of a pixel of the image in cells of the logits.
        threshold: logit above which a pixel belongs to the mask.
        max_pixels: pixels in memory at a time; at least one column.

    Returns:
        The run lengths of each mask, see `Masks`.
    """
    axes = zip(size, logits.shape[1:], cells_per_pixel, strict=True)
    rows, columns = (interpolation_matrix(*axis) for axis in axes)  # (height, h) and (width, w)
    logits = logits.clip(-LIMIT, LIMIT)
    above = logits > np.float32(threshold)
    spans = [span_of(above.max(axis=axis), matrix) for axis, matrix in ((2, rows), (1, columns))]
    step = max(1, max_pixels // size[0])
    found = []
    for mask, (top, bottom, y1, y2), (left, right, x1, x2) in zip(logits, *spans, strict=True):
        # Columns come first, because COCO's encoding goes down each column.
        tall = (rows[y1:y2, top:bottom] @ mask[top:bottom, left:right]).T  # (right - left, y2 - y1)
        edges = [np.zeros(0, np.int64)]
        for x in range(x1, x2, step):
            strip = columns[x : min(x + step, x2), left:right] @ tall > np.float32(threshold)
            edges.append(edges_of(strip, x, y1, size[0]))
        found.append(runs_of(np.concatenate(edges), size))
    return found


def interpolation_matrix(length: int, cells: int, cells_per_pixel: float) -> np.ndarray:
    """Return the weights of linear interpolation from cells to pixels, each row of which sums to 1.

    The centre of pixel i lies at (i + 0.5) * cells_per_pixel on an axis on which cell j covers j to j + 1. Beyond the
    centres of the outer cells, values are constant. `rtmdet_plugin.models.interpolation` has the same in PyTorch.

    Args:
        length: number of pixels.
        cells: number of cells.
        cells_per_pixel: size of a pixel in cells.

    Returns:
        float32 matrix. (length, cells)
    """
    places = ((np.arange(length) + 0.5) * cells_per_pixel - 0.5).clip(0, cells - 1)[:, None]
    return (1 - np.abs(places - np.arange(cells))).clip(min=0).astype(np.float32)


def span_of(above: np.ndarray, axis: np.ndarray) -> list[list[int]]:
    """Return the range of cells and of pixels of each mask that must be interpolated along one axis.

    Args:
        above: cells above the threshold. (n, cells)
        axis: matrix of the interpolation. (pixels, cells)

    Returns:
        First and last + 1 of the cells, and first and last + 1 of the pixels; 0, 0, 0, 0 if there are none. (n, 4)
    """
    near = above.astype(np.float32) @ axis.T > 0  # (n, pixels): those that a cell above the threshold contributes to
    used = near.astype(np.float32) @ axis > 0  # (n, cells): all that contribute to these pixels
    ends = []
    for flags in (used, near):
        first = flags.argmax(axis=1)
        last = flags.shape[1] - flags[:, ::-1].argmax(axis=1)
        ends += [first, np.where(flags.any(axis=1), last, 0)]
    return np.stack(ends, axis=1).tolist()
