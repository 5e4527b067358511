"""Fold batch norms into the convolutions before them."""

from __future__ import annotations

import copy

from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Return a copy of a model that computes the same with its batch norms folded into the convolutions.

    A convolution that several levels share, each with its own norm, becomes one convolution per level, because the
    folded weights differ. (mmcv's `fuse_conv_bn` folds the norm of each level into the same shared weights.)

    Raises:
        ValueError: if the model is in training mode, because the statistics of a batch can't be folded.
    """
    if model.training:
        raise ValueError('model must be in evaluation mode, got training mode; call model.eval() first')
    model = copy.deepcopy(model)
    layers: list[ConvModule] = [module for module in model.modules() if isinstance(module, ConvModule)]
    for module in layers:
        if module.with_norm and isinstance(module.norm, _BatchNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            setattr(module, module.norm_name, nn.Identity())
            module.with_norm = False
    return model
