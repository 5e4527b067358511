"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

import copy

from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy of a model whose batch norms are part of the convolutions; the same function, without its norms.

    A convolution that several levels share, each with its own norm, becomes one convolution a level: the copies
    can't be shared any more. (mmcv's `fuse_conv_bn` writes into the shared weights, once for each level.)

    Raises:
        ValueError: where the model is in training mode: statistics of a batch can't be folded.
    """
    if model.training:
        raise ValueError('the model is in training mode; accepted: a model after model.eval()')
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, ConvModule) and module.with_norm and isinstance(module.norm, _BatchNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            setattr(module, module.norm_name, nn.Identity())
            module.with_norm = False
    return model
