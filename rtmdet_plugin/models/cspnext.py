"""CSPNeXt, the backbone of RTMDet.

Source: RTMDet, arXiv 2212.07784, section 3.2. State-dict keys are mmdet's.

Differences from mmdet: the block's kernel is an argument; `init_cfg=dict(type='Pretrained', ...)` fails if the file is
unavailable or doesn't cover the backbone, whereas mmdet warns and starts from random weights.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn as nn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .csp_layer import KAIMING_INIT, SPP, CSPLayer
from .pretrained import load_pretrained


@MODELS.register_module()
class RTMCSPNeXt(BaseModule):
    """CSPNeXt backbone.

    Args:
        arch: 'P5' (strides up to 32) or 'P6' (up to 64).
        deepen_factor: multiplies the number of blocks of each stage.
        widen_factor: multiplies the number of channels.
        out_indices: stages whose outputs are returned; 0 is the stem.
        frozen_stages: the stem and the stages up to this one keep their weights and statistics; -1 freezes none.
        use_depthwise: use depthwise separable convolutions in the stages (nano).
        expand_ratio: channels of each half of a CSP layer as a share of its output channels.
        arch_ovewrite: replaces the table of `arch`; one row per stage:
            (in channels, out channels, blocks, add identity, use SPP). The spelling is mmdet's.
        kernel_size: kernel of the large depthwise convolutions; odd.
        channel_attention: use channel attention in each stage.
        norm_cfg: config of the norm layers.
        act_cfg: config of the activations.
        norm_eval: keep the batch norms' statistics fixed in training.
        init_cfg: config of mmengine's initialisation; `Pretrained` loads OpenMMLab's backbone checkpoints.

    Raises:
        ValueError: if `arch` is unknown, `out_indices` or `frozen_stages` is out of range, `widen_factor` or
            `deepen_factor` isn't positive, or `kernel_size` is even.

    Examples:
        >>> backbone = RTMCSPNeXt(widen_factor=0.5, deepen_factor=0.33)
        >>> [tuple(out.shape) for out in backbone(torch.rand(1, 3, 640, 640))]
        [(1, 128, 80, 80), (1, 256, 40, 40), (1, 512, 20, 20)]
    """

    # in channels, out channels, blocks, add identity, use SPP
    arch_settings = {
        'P5': (
            (64, 128, 3, True, False),
            (128, 256, 6, True, False),
            (256, 512, 6, True, False),
            (512, 1024, 3, False, True),
        ),
        'P6': (
            (64, 128, 3, True, False),
            (128, 256, 6, True, False),
            (256, 512, 6, True, False),
            (512, 768, 3, True, False),
            (768, 1024, 3, False, True),
        ),
    }

    def __init__(
        self,
        *,
        arch: str = 'P5',
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        arch_ovewrite: Sequence[Sequence] | None = None,
        kernel_size: int = 5,
        channel_attention: bool = True,
        norm_cfg: dict = dict(type='BN', momentum=0.1, eps=1e-5),  # noqa: B006
        act_cfg: dict = dict(type='SiLU', inplace=True),  # noqa: B006
        norm_eval: bool = False,
        init_cfg: dict | None = KAIMING_INIT,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if arch not in self.arch_settings:
            raise ValueError(f'arch must be one of {sorted(self.arch_settings)}, got {arch!r}')
        stages = arch_ovewrite or self.arch_settings[arch]
        if not set(out_indices) <= set(range(len(stages) + 1)):
            raise ValueError(f'out_indices must lie in 0..{len(stages)} ({arch}), got {tuple(out_indices)}')
        if not -1 <= frozen_stages <= len(stages):
            raise ValueError(f'frozen_stages must lie in -1..{len(stages)} ({arch}), got {frozen_stages}')
        if widen_factor <= 0 or deepen_factor <= 0:
            raise ValueError(f'widen_factor and deepen_factor must be positive, got {widen_factor}, {deepen_factor}')

        layer_cfg: dict[str, Any] = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        stem = int(stages[0][0] * widen_factor)
        self.stem = nn.Sequential(
            ConvModule(3, stem // 2, 3, stride=2, padding=1, **layer_cfg),
            ConvModule(stem // 2, stem // 2, 3, padding=1, **layer_cfg),
            ConvModule(stem // 2, stem, 3, padding=1, **layer_cfg),
        )
        self.layers = ['stem']
        conv = DepthwiseSeparableConvModule if use_depthwise else ConvModule
        for i, (in_channels, out_channels, num_blocks, add_identity, use_spp) in enumerate(stages, start=1):
            out_channels = int(out_channels * widen_factor)
            stage: list[nn.Module] = [
                conv(int(in_channels * widen_factor), out_channels, 3, stride=2, padding=1, **layer_cfg)
            ]
            if use_spp:
                stage.append(SPP(out_channels, **layer_cfg))
            stage.append(
                CSPLayer(
                    out_channels,
                    out_channels,
                    num_blocks=max(round(num_blocks * deepen_factor), 1),
                    expand_ratio=expand_ratio,
                    add_identity=add_identity,
                    use_depthwise=use_depthwise,
                    channel_attention=channel_attention,
                    kernel_size=kernel_size,
                    **layer_cfg,
                )
            )
            self.add_module(f'stage{i}', nn.Sequential(*stage))
            self.layers.append(f'stage{i}')

        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        # Freeze here as well as in `train`: DDP registers the parameters that need a gradient before the first epoch.
        self._freeze()

    def init_weights(self) -> None:
        """Initialise as `init_cfg` says; a `Pretrained` checkpoint must cover every weight.

        Raises:
            RuntimeError: if the checkpoint can't be read or downloaded.
            ValueError: if it doesn't cover the backbone.
        """
        entries: list[dict] = [self.init_cfg] if isinstance(self.init_cfg, dict) else list(self.init_cfg or ())
        pretrained = [entry for entry in entries if entry.get('type') == 'Pretrained']
        self.init_cfg = [entry for entry in entries if entry.get('type') != 'Pretrained']
        super().init_weights()
        self.init_cfg = entries
        for entry in pretrained:
            load_pretrained(self, entry['checkpoint'], prefix=entry.get('prefix', ''))

    def train(self, mode: bool = True) -> 'RTMCSPNeXt':
        """Set the mode; frozen stages, and with `norm_eval` all batch norms, stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        for name in self.layers[: self.frozen_stages + 1]:
            getattr(self, name).eval().requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute feature maps.

        Args:
            x: normalised images. (B, 3, H, W)

        Returns:
            A feature map for each i in `out_indices`. (B, C_i, H / 2^(i+1), W / 2^(i+1))
        """
        outs = []
        for i, name in enumerate(self.layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)
