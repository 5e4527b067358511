"""Folded batch norms: the same function, no norm left, the original untouched."""

import pytest
import torch
from mmcv.cnn import ConvModule
from torch.nn.modules.batchnorm import _BatchNorm

from rtmdet_plugin.export.folding import fold_batch_norms


@pytest.mark.parametrize('size', ['nano', 's'])
def test_same_outputs_without_norms(random_model, size):
    model = random_model(size)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold_batch_norms(model)
    assert not any(isinstance(module, _BatchNorm) for module in folded.modules())
    assert any(isinstance(module, _BatchNorm) for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for ours, expected in zip(folded(images), model(images), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-3)
            assert all(level.std() > 0.01 for level in ours), 'constant outputs prove nothing'


def test_a_convolution_that_levels_share_becomes_one_a_level(random_model):
    model = random_model('s')
    convs = [level[0].conv for level in model.bbox_head.cls_convs]
    assert convs[0] is convs[1] is convs[2]
    folded = [level[0].conv for level in fold_batch_norms(model).bbox_head.cls_convs]
    assert len({conv.weight.data_ptr() for conv in folded}) == 3
    for conv, level in zip(folded, model.bbox_head.cls_convs, strict=True):
        scale = level[0].bn.weight / (level[0].bn.running_var + level[0].bn.eps).sqrt()
        torch.testing.assert_close(conv.weight, convs[0].weight * scale[:, None, None, None])


def test_a_convolution_without_norm_stays():
    model = torch.nn.Sequential(ConvModule(3, 4, 1), ConvModule(4, 4, 1, norm_cfg=dict(type='GN', num_groups=2))).eval()
    folded = fold_batch_norms(model)
    assert torch.equal(folded[0].conv.weight, model[0].conv.weight)
    assert folded[1].with_norm


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match='training mode'):
        fold_batch_norms(ConvModule(3, 4, 1))
