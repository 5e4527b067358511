"""Decoding in a graph, in the runtime and by mmdet's coder: the same boxes and scores."""

import numpy as np
import pytest
import torch
from mmdet.models.task_modules import DistancePointBBoxCoder

from rtmdet_plugin.export.forms import decode, grid_points
from rtmdet_runtime.postprocess import decode_maps

STRIDES, CLASSES, HEIGHT, WIDTH = (8, 16, 32), 3, 64, 96


@pytest.mark.parametrize('exp_on_reg', [False, True])
def test_three_ways_to_decode(exp_on_reg):
    generator = torch.Generator().manual_seed(0)
    sizes = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
    logits = [torch.randn(1, CLASSES, *size, generator=generator) for size in sizes]
    maps = [torch.randn(1, 4, *size, generator=generator) for size in sizes]
    sides = [(level.exp() if exp_on_reg else level) * stride for level, stride in zip(maps, STRIDES, strict=True)]
    points = torch.cat([grid_points(*size, stride) for size, stride in zip(sizes, STRIDES, strict=True)], dim=1)
    boxes, scores = decode(logits, sides, points, torch.tensor([[WIDTH], [HEIGHT]], dtype=torch.float32))

    flat = torch.cat([level.flatten(2) for level in sides], dim=2)[0].T
    coded = DistancePointBBoxCoder().decode(points.T, flat, max_shape=(HEIGHT, WIDTH))
    torch.testing.assert_close(boxes[0], coded)

    found = decode_maps(*([level[0].numpy() for level in part] for part in (logits, maps)), STRIDES, exp_on_reg, 0)
    counts = [height * width for height, width in sizes]
    expected = [  # of each level, class by class
        (
            part_boxes.repeat(CLASSES, 1),
            part_scores.T.flatten(),
            torch.arange(CLASSES).repeat_interleave(count),
            torch.arange(first, first + count).repeat(CLASSES),
        )
        for part_boxes, part_scores, first, count in zip(
            boxes[0].split(counts), scores[0].split(counts), (0, *np.cumsum(counts[:-1])), counts, strict=True
        )
    ]
    for part, values in zip(found, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(part, torch.cat(values).numpy(), rtol=1e-5, atol=1e-4)
