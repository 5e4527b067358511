"""The mask prototypes of RTMDet-Ins: a few maps at stride 8 that all instances of an image share.

State-dict keys are mmdet's (`MaskFeatModule`). The fusion is a 1x1 convolution of the concatenated levels, enlarged to
the finest. Both are linear, so each level is convolved at its own size and then enlarged: the coarser levels take 1/4
and 1/16 of the multiply-adds, and the concatenation isn't needed.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

NUM_CONVS = 4


class MaskFeatModule(BaseModule):
    """Network of the mask prototypes.

    Args:
        in_channels: channels of each feature map.
        feat_channels: channels within the module.
        num_levels: number of feature maps.
        num_prototypes: number of prototypes.
        norm_cfg: config of the norm layers.
        act_cfg: config of the activations.
    """

    def __init__(
        self,
        in_channels: int,
        feat_channels: int,
        num_levels: int,
        num_prototypes: int,
        norm_cfg: dict,
        act_cfg: dict,
    ) -> None:
        super().__init__()
        self.fusion_conv = nn.Conv2d(num_levels * in_channels, in_channels, 1)
        self.stacked_convs = nn.Sequential(
            *(
                ConvModule(
                    feat_channels if i else in_channels, feat_channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=act_cfg
                )
                for i in range(NUM_CONVS)
            )
        )
        self.projection = nn.Conv2d(feat_channels, num_prototypes, 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Compute the prototypes.

        Args:
            feats: feature maps, finest first. (B, in_channels, H_i, W_i) each

        Returns:
            Prototypes at the size of the finest map. (B, num_prototypes, H_0, W_0)
        """
        finest, *coarser = feats
        weights = self.fusion_conv.weight.split(finest.size(1), dim=1)
        fused = F.conv2d(finest, weights[0], self.fusion_conv.bias)
        for x, weight in zip(coarser, weights[1:], strict=True):
            fused = fused + F.interpolate(F.conv2d(x, weight), size=finest.shape[-2:], mode='bilinear')
        return self.projection(self.stacked_convs(fused))
