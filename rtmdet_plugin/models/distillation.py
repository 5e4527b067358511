"""Train the neck of a small RTMDet to give the features of a larger one.

The features are the outputs of the neck's last convolutions, before their batch norm. A connector, a 1x1 convolution,
maps the student's to the channels of the teacher's. Both are normalised to mean 0 and variance 1 of each channel over
the batch of a process, and the divergence compares where in an image each channel is active, not how strongly.

Sources: channel-wise divergence, arXiv 2011.13256; normalised features, arXiv 2207.02039. mmyolo's recipe for RTMDet
has the same parts; its batch norms have neither parameters nor running statistics, so they are a function here.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


class NeckDistillationLoss(nn.Module):
    """Divergence between a student's and a teacher's features, level by level; its parameters are the connectors.

    Args:
        student_channels: channels of the student's features, finest level first.
        teacher_channels: channels of the teacher's features, finest level first.
        tau: temperature of the softmax over the positions.
        loss_weight: factor of the loss of each level.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        tau: float = 1.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.tau = tau
        self.loss_weight = loss_weight
        self.connectors = nn.ModuleList(
            nn.Conv2d(ours, theirs, 1, bias=False)
            for ours, theirs in zip(student_channels, teacher_channels, strict=True)
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
        """Compute the loss of each level.

        Args:
            student: features of the student, finest level first. (B, student_channels[i], H_i, W_i) each
            teacher: features of the teacher for the same images. (B, teacher_channels[i], H_i, W_i) each
        """
        return [
            self.loss_weight
            * channel_wise_divergence(normalize_channels(connector(ours)), normalize_channels(theirs), self.tau)
            for connector, ours, theirs in zip(self.connectors, student, teacher, strict=True)
        ]


def normalize_channels(features: Tensor) -> Tensor:
    """Shift and scale each channel to mean 0 and variance 1 over the batch, in float32. (B, C, H, W) -> same."""
    return F.batch_norm(features.float(), None, None, training=True)


def channel_wise_divergence(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Compute the mean over images and channels of KL(teacher || student), times tau squared.

    Each channel of an image is a distribution over its positions: the softmax of its values divided by tau.

    Args:
        student: features. (B, C, H, W)
        teacher: features. (B, C, H, W)
        tau: temperature.

    Returns:
        The divergence, a scalar; 0 for equal features.
    """
    ours, theirs = ((features.flatten(2) / tau).log_softmax(2) for features in (student, teacher))
    return tau**2 * F.kl_div(ours, theirs, reduction='sum', log_target=True) / (student.size(0) * student.size(1))


def output_convs(neck: nn.Module) -> list[nn.Conv2d]:
    """Return the last convolution of each output of a CSPNeXtPAFPN, ours or mmdet's, finest level first.

    Raises:
        ValueError: if the neck isn't a CSPNeXtPAFPN.
    """
    outputs = getattr(neck, 'out_convs', ())
    if not outputs:
        raise ValueError(f'model.neck must be a CSPNeXtPAFPN, which has out_convs, got {type(neck).__name__}')
    return [[module for module in output.modules() if isinstance(module, nn.Conv2d)][-1] for output in outputs]


class FeatureRecorder:
    """Record what convolutions compute in the forward passes of their model.

    Args:
        convs: the convolutions, in the order in which `take` returns their outputs.
    """

    def __init__(self, convs: Sequence[nn.Conv2d]) -> None:
        self._features: dict[int, Tensor] = {}
        self._handles = [conv.register_forward_hook(partial(self._record, k)) for k, conv in enumerate(convs)]

    def _record(self, index: int, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._features[index] = output

    def take(self) -> list[Tensor]:
        """Return the outputs of the last forward pass, and keep none of them."""
        features, self._features = self._features, {}
        return [features[index] for index in sorted(features)]

    def remove(self) -> None:
        """Stop recording."""
        for handle in self._handles:
            handle.remove()
