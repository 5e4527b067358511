"""Masks at stride 4: their pixels and centroids, and what mmengine's InstanceData does with them."""

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.assigners.dynamic_soft_label_assigner import center_of_mass
from mmengine.structures import InstanceData

from rtmdet_plugin.stride_masks import StrideMasks


def test_pixels_and_centroids_are_those_that_mmdet_takes_from_full_masks():
    full = np.random.default_rng(0).random((3, 22, 33)) > 0.7
    full[1] = False
    masks = StrideMasks.from_full(full)
    assert masks.pixels.dtype == torch.uint8 and masks.centers.dtype == torch.float32
    np.testing.assert_array_equal(masks.pixels, full[:, 2::4, 2::4])
    torch.testing.assert_close(masks.centers, center_of_mass(torch.from_numpy(full)))
    assert masks.centers[1].tolist() == [0, 0]
    none = StrideMasks.from_full(np.zeros((0, 22, 33)))
    assert len(none) == 0 and none.pixels.shape == (0, 5, 8) and none.centers.shape == (0, 2)


def test_instance_data_indexes_concatenates_and_moves_them():
    masks = StrideMasks.from_full(np.arange(4)[:, None, None] >= np.zeros((1, 8, 8)) + 2)
    data = InstanceData(labels=torch.arange(4), masks=masks)
    for index in (torch.tensor([3, 0]), torch.tensor([True, False, False, True]), np.array([2, 1]), slice(1, 3)):
        chosen = data[index]
        assert (chosen.masks.pixels[:, 0, 0] == (chosen.labels >= 2)).all()
        assert len(chosen.masks.centers) == len(chosen.labels) == 2
    both = InstanceData.cat([data, data[:1]])
    assert both.masks.pixels[:, 0, 0].tolist() == [0, 0, 1, 1, 0]
    moved = data.to('meta').masks
    assert moved.pixels.device.type == moved.centers.device.type == 'meta'


def test_centers_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r'must be \(G, h, w\) and \(G, 2\), got \(2, 4, 4\) and \(3, 2\)'):
        StrideMasks(torch.zeros(2, 4, 4), torch.zeros(3, 2))
