"""Masks encoded from coarse logits: the same as encoding the enlarged image, in any chunks; use by mmdet's tools."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.mask import encode_mask_results
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from rtmdet_plugin.models.dynamic_conv import mask_logits
from rtmdet_plugin.models.interpolation import interpolate, interpolation_matrix
from rtmdet_plugin.models.rle_masks import RLEMasks, encode_masks
from rtmdet_runtime import mask_decoding


def coarse_logits(n=6, height=9, width=12):
    """Logits whose masks fill, cross or miss the sides of the image; one has no pixel, one has all."""
    logits = torch.randn(n, height, width, generator=torch.Generator().manual_seed(0))
    logits[0], logits[1] = -1, 1
    logits[2, :, 4:] = -1  # on the left side only
    logits[3, 2:-3] = logits[3, 2:-3].abs()  # right across
    logits[4, :, 5:7] = 1  # from top to bottom: runs join over columns
    logits[5], logits[5, 4, 6] = -1, 9  # reaches far into the neighbouring cells
    return logits


def enlarged(logits, size, cells_per_pixel):
    """Interpolate in float64, pixel by pixel, as the reference."""
    grids = [
        ((torch.arange(n, dtype=torch.float64) + 0.5) * f - 0.5).clamp(0, c - 1)
        for n, f, c in zip(size, cells_per_pixel, logits.shape[1:], strict=True)
    ]
    y, x = torch.meshgrid(*grids, indexing='ij')
    places = torch.stack([x / (logits.size(2) - 1), y / (logits.size(1) - 1)], dim=-1) * 2 - 1
    return F.grid_sample(logits.double()[None], places[None], align_corners=True)[0]


@pytest.mark.parametrize('factor', [(1 / 8, 1 / 8), (1 / 3.7, 1 / 5.3), (0.9, 1.3)])
@pytest.mark.parametrize('max_pixels', [1, 500, 2**21])
def test_the_same_as_encoding_the_enlarged_image(factor, max_pixels):
    logits = coarse_logits()
    size = tuple(int(n / f) - 1 for n, f in zip(logits.shape[1:], factor, strict=True))
    expected = enlarged(logits, size, factor) > 0.1
    found = encode_masks(logits, size, factor, 0.1, max_pixels)
    assert 0.1 < expected.double().mean() < 0.9
    for rle, mask in zip(found, encode_mask_results(expected.numpy()), strict=True):
        assert rle == mask  # size and compressed counts


def test_the_runtime_computes_the_same_logits():
    generator = torch.Generator().manual_seed(0)
    prototypes, kernels = (torch.randn(*shape, generator=generator) for shape in ((8, 9, 12), (6, 169)))
    priors = torch.tensor([[0.0, 0, 8], [88, 64, 8], [32, 16, 16], [80, 48, 16], [0, 32, 32], [64, 0, 32]])
    found = mask_decoding.mask_logits(*(values.numpy() for values in (prototypes, kernels, priors)), stride=8)
    torch.testing.assert_close(torch.from_numpy(found), mask_logits(prototypes, kernels, priors, 8))


@pytest.mark.parametrize('factor', [1 / 8, 1 / 12.5, 1.3])
def test_the_runtime_interpolates_with_the_same_weights(factor):
    expected = interpolation_matrix(100, 13, factor, torch.device('cpu'))
    np.testing.assert_array_equal(mask_decoding.interpolation_matrix(100, 13, factor), expected)


def test_interpolation_by_a_whole_factor_is_torchs():
    maps = torch.randn(3, 5, 7)
    found = interpolate(maps, *(interpolation_matrix(2 * n, n, 0.5, maps.device) for n in (5, 7)))
    torch.testing.assert_close(found, F.interpolate(maps[None], scale_factor=2, mode='bilinear')[0])


def test_a_part_of_the_pixels_is_interpolated():
    """A mask of 4 cells takes a few pixels of an image of 12 million, and no time."""
    logits = torch.full((100, 94, 125), -1.0)
    logits[:, 40:42, 50:52] = 1
    masks = encode_masks(logits, (3000, 4000), (94 / 3000, 125 / 4000), 0.0)
    assert masks[0]['size'] == [3000, 4000]
    box = coco_mask.toBbox(masks[99])
    np.testing.assert_allclose(box, [50 * 32, 40 * 31.9, 64, 64], atol=2)


def test_mmdets_tools_take_the_masks():
    logits = coarse_logits()
    masks = encode_masks(logits, (72, 96), (1 / 8, 1 / 8), 0.0)
    arrays = masks.numpy()
    assert arrays.shape == (6, 72, 96) and arrays.dtype == bool and masks.astype(np.uint8).dtype == np.uint8
    assert encode_mask_results(masks) == masks  # as DetInferencer does

    instances = InstanceData(masks=masks, labels=torch.zeros(6, dtype=torch.long), bboxes=torch.zeros(6, 4))
    instances.scores = torch.tensor([0.9, 0.1, 0.8, 0.1, 0.1, 0.7])
    chosen = instances[instances.scores > 0.5]
    assert isinstance(chosen.masks, RLEMasks)
    np.testing.assert_array_equal(chosen.masks.numpy(), arrays[[0, 2, 5]])
    image = np.full((72, 96, 3), 128, np.uint8)
    drawn = DetLocalVisualizer()._draw_instances(image, chosen, ['disc'], [(255, 0, 0)])
    assert not np.array_equal(drawn, image)
    none = instances[instances.scores > 1].masks
    assert none.numpy().shape == none.cpu().shape == (0, 72, 96)
    assert DetLocalVisualizer()._draw_instances(image, instances[:0], ['disc'], [(255, 0, 0)]) is not None
