"""CSPNeXtPAFPN, the neck of RTMDet: a top-down and a bottom-up feature pyramid of CSPNeXt blocks.

Source: RTMDet, arXiv 2212.07784, section 3.2. State-dict keys are mmdet's.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from .csp_layer import KAIMING_INIT, CSPLayer


@MODELS.register_module()
class RTMCSPNeXtPAFPN(BaseModule):
    """Path aggregation network of CSPNeXt blocks.

    Args:
        in_channels: channels of the backbone's outputs, finest level first.
        out_channels: channels of each output.
        num_csp_blocks: blocks in each CSP layer.
        deepen_factor: multiplies `num_csp_blocks`, as in mmyolo.
        widen_factor: multiplies `in_channels` and `out_channels`, as in mmyolo.
        use_depthwise: use depthwise separable convolutions (nano).
        expand_ratio: channels of each half of a CSP layer as a share of its output channels.
        kernel_size: kernel of the large depthwise convolutions; odd.
        norm_cfg: config of the norm layers.
        act_cfg: config of the activations.
        init_cfg: config of mmengine's initialisation.

    Raises:
        ValueError: if `kernel_size` is even, or a factor isn't positive.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        num_csp_blocks: int = 3,
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        kernel_size: int = 5,
        norm_cfg: dict = dict(type='BN', momentum=0.1, eps=1e-5),  # noqa: B006
        act_cfg: dict = dict(type='SiLU', inplace=True),  # noqa: B006
        init_cfg: dict | None = KAIMING_INIT,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if widen_factor <= 0 or deepen_factor <= 0:
            raise ValueError(f'widen_factor and deepen_factor must be positive, got {widen_factor}, {deepen_factor}')
        self.in_channels = tuple(int(channels * widen_factor) for channels in in_channels)
        self.out_channels = out_channels = int(out_channels * widen_factor)
        num_csp_blocks = round(num_csp_blocks * deepen_factor)
        layer_cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule

        def csp_layer(in_channels: int, out_channels: int) -> CSPLayer:
            return CSPLayer(
                in_channels,
                out_channels,
                num_blocks=num_csp_blocks,
                expand_ratio=expand_ratio,
                add_identity=False,
                use_depthwise=use_depthwise,
                channel_attention=False,
                kernel_size=kernel_size,
                **layer_cfg,
            )

        self.upsample = nn.Upsample(scale_factor=2, mode='nearest')
        steps = list(zip(self.in_channels[:-1], self.in_channels[1:], strict=True))  # (finer, coarser)
        self.reduce_layers = nn.ModuleList(ConvModule(coarse, fine, 1, **layer_cfg) for fine, coarse in steps[::-1])
        self.top_down_blocks = nn.ModuleList(csp_layer(2 * fine, fine) for fine, _ in steps[::-1])
        self.downsamples = nn.ModuleList(conv(fine, fine, 3, stride=2, padding=1, **layer_cfg) for fine, _ in steps)
        self.bottom_up_blocks = nn.ModuleList(csp_layer(2 * fine, coarse) for fine, coarse in steps)
        self.out_convs = nn.ModuleList(
            conv(channels, out_channels, 3, padding=1, **layer_cfg) for channels in self.in_channels
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the feature maps.

        Args:
            inputs: feature maps, finest first. (B, in_channels[i], H_i, W_i) each

        Returns:
            Feature maps of the same sizes. (B, out_channels, H_i, W_i) each

        Raises:
            ValueError: if the number of maps or their channels differ from `in_channels`.
        """
        channels = tuple(x.size(1) for x in inputs)
        if channels != self.in_channels:
            raise ValueError(
                f"neck.in_channels must be the channels of the backbone's outputs, {channels}, got {self.in_channels}; "
                "set it to them, or change the backbone's widen_factor"
            )

        lateral = [inputs[-1]]  # inputs of the bottom-up path, coarsest first
        for fine, reduce, block in zip(inputs[-2::-1], self.reduce_layers, self.top_down_blocks, strict=True):
            lateral[-1] = reduce(lateral[-1])
            lateral.append(block(torch.cat((self.upsample(lateral[-1]), fine), dim=1)))

        outs = [lateral.pop()]
        for downsample, block in zip(self.downsamples, self.bottom_up_blocks, strict=True):
            outs.append(block(torch.cat((downsample(outs[-1]), lateral.pop()), dim=1)))
        return tuple(conv(out) for conv, out in zip(self.out_convs, outs, strict=True))
