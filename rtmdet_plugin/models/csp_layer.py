"""The building blocks that backbone and neck share: CSPNeXt block, channel attention, CSP layer, SPP.

Source: RTMDet, arXiv 2212.07784, section 3.2. Parameter names are mmdet's, so that its checkpoints load.

Differences from mmdet: the large kernel is an argument (the paper's ablation), there is no Darknet block, and SPP
is three sequential 5x5 pools instead of parallel pools of 5, 9 and 13. Both give the same values, because the maximum
over a window of maxima is the maximum over the larger window. The sequence reads 75 values per pixel instead of 275.
"""

import math
from typing import Any

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor

# PyTorch's default for convolutions, as a config of mmengine's initialiser.
KAIMING_INIT = dict(
    type='Kaiming',
    layer='Conv2d',
    a=math.sqrt(5),
    distribution='uniform',
    mode='fan_in',
    nonlinearity='leaky_relu',
)


class CSPNeXtBlock(BaseModule):
    """A 3x3 convolution, then a depthwise convolution with a large kernel and its pointwise convolution.

    Args:
        channels: input and output channels.
        kernel_size: kernel of the depthwise convolution; odd. The paper compares 3, 5 and 7.
        add_identity: add the input to the output.
        use_depthwise: make the 3x3 convolution depthwise separable as well.
        norm_cfg: config of the norm layers.
        act_cfg: config of the activations.

    Raises:
        ValueError: if `kernel_size` is even or not positive, because no symmetric padding keeps the size then.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int,
        add_identity: bool,
        use_depthwise: bool,
        norm_cfg: dict,
        act_cfg: dict,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd and positive (the paper uses 3, 5, 7), got {kernel_size}')
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        self.conv1 = conv(channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv2 = DepthwiseSeparableConvModule(
            channels, channels, kernel_size, padding=kernel_size // 2, norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        self.add_identity = add_identity

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, (B, C, H, W) -> (B, C, H, W)."""
        out = self.conv2(self.conv1(x))
        return out + x if self.add_identity else out


class ChannelAttention(BaseModule):
    """Channel attention: each channel is scaled by a hard sigmoid of a linear map of the channel means.

    Args:
        channels: input and output channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, (B, C, H, W) -> (B, C, H, W)."""
        return x * self.act(self.fc(self.global_avgpool(x)))


class CSPLayer(BaseModule):
    """Cross stage partial layer: half of the channels pass through blocks, the other half bypasses them.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        num_blocks: number of CSPNeXt blocks.
        expand_ratio: channels of each half as a share of `out_channels`.
        add_identity: whether the blocks add their input.
        use_depthwise: see `CSPNeXtBlock`.
        channel_attention: add a `ChannelAttention` before the last convolution.
        kernel_size: see `CSPNeXtBlock`.
        norm_cfg: config of the norm layers.
        act_cfg: config of the activations.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_blocks: int,
        expand_ratio: float,
        add_identity: bool,
        use_depthwise: bool,
        channel_attention: bool,
        kernel_size: int,
        norm_cfg: dict,
        act_cfg: dict,
    ) -> None:
        super().__init__()
        mid_channels = int(out_channels * expand_ratio)
        layer_cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.main_conv = ConvModule(in_channels, mid_channels, 1, **layer_cfg)
        self.short_conv = ConvModule(in_channels, mid_channels, 1, **layer_cfg)
        self.final_conv = ConvModule(2 * mid_channels, out_channels, 1, **layer_cfg)
        self.blocks = nn.Sequential(
            *[
                CSPNeXtBlock(
                    mid_channels,
                    kernel_size=kernel_size,
                    add_identity=add_identity,
                    use_depthwise=use_depthwise,
                    **layer_cfg,
                )
                for _ in range(num_blocks)
            ]
        )
        if channel_attention:
            self.attention = ChannelAttention(2 * mid_channels)
        self.channel_attention = channel_attention

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, (B, in_channels, H, W) -> (B, out_channels, H, W)."""
        out = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), dim=1)
        if self.channel_attention:
            out = self.attention(out)
        return self.final_conv(out)


class SPP(BaseModule):
    """Spatial pyramid pooling over windows of 5, 9 and 13, as three sequential 5x5 max pools.

    Args:
        channels: input and output channels.
        norm_cfg: config of the norm layers.
        act_cfg: config of the activations.
    """

    def __init__(self, channels: int, *, norm_cfg: dict, act_cfg: dict) -> None:
        super().__init__()
        mid_channels = channels // 2
        self.conv1 = ConvModule(channels, mid_channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.pool = nn.MaxPool2d(kernel_size=5, stride=1, padding=2)
        self.conv2 = ConvModule(mid_channels * 4, channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, (B, C, H, W) -> (B, C, H, W)."""
        x1 = self.conv1(x)
        x5 = self.pool(x1)
        x9 = self.pool(x5)
        x13 = self.pool(x9)
        return self.conv2(torch.cat((x1, x5, x9, x13), dim=1))
