"""Quality focal loss and GIoU loss that weight all priors instead of selecting some, and the Dice loss of masks.

mmdet's losses of classes and boxes select the positives with `nonzero` and evaluate `weight.any()`, so that the host
waits for the device in every step, and their autograd graph holds six tensors of priors x classes. The losses here give
the same values and gradients; mmdet's work in the same head, its Dice loss with `reduction='sum'`.

Sources: quality focal loss, arXiv 2006.04388; GIoU, arXiv 1902.09630; Dice, arXiv 1606.04797.
"""

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class RTMQualityFocalLoss(nn.Module):
    """mmdet's `QualityFocalLoss` on logits.

    Args:
        use_sigmoid: must be True; exists because mmyolo's head reads it from this config.
        beta: exponent of the distance between score and target.
        loss_weight: factor of the loss.

    Raises:
        ValueError: if `beta` isn't positive or `use_sigmoid` isn't True.
    """

    def __init__(self, *, use_sigmoid: bool = True, beta: float = 2.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError(f'use_sigmoid must be True, got {use_sigmoid}: the loss is that of a sigmoid per class')
        if beta <= 0:
            raise ValueError(f'beta must be positive, got {beta}')
        self.beta = beta
        self.loss_weight = loss_weight

    def forward(
        self, logits: Tensor, target: tuple[Tensor, Tensor], weight: Tensor, avg_factor: float | Tensor
    ) -> Tensor:
        """Compute the loss: the weighted sum over priors and classes, divided by `avg_factor`.

        Args:
            logits: class logits. (M, C)
            target: label, C for background (M,), and target score in [0, 1] (M,).
            weight: weight of each prior. (M,)
            avg_factor: divisor.
        """
        return self.loss_weight * quality_focal_loss(logits, *target, weight, self.beta) / avg_factor


@MODELS.register_module()
class RTMGIoULoss(nn.Module):
    """mmdet's `GIoULoss`.

    Args:
        loss_weight: factor of the loss.
    """

    def __init__(self, *, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, boxes: Tensor, target: Tensor, weight: Tensor, avg_factor: float | Tensor) -> Tensor:
        """Compute the loss: the weighted sum over the boxes, divided by `avg_factor`.

        Args:
            boxes: predicted boxes, xyxy. (M, 4)
            target: target boxes, xyxy. (M, 4)
            weight: weight of each box. (M,)
            avg_factor: divisor.
        """
        return self.loss_weight * ((1 - giou(boxes, target)) * weight).sum() / avg_factor


@MODELS.register_module()
class RTMDiceLoss(nn.Module):
    """mmdet's `DiceLoss` on logits, in the form of V-Net, summed over the instances.

    Args:
        loss_weight: factor of the loss.
        eps: is added to the squared areas of prediction and mask, so that an empty mask gives a finite loss.
    """

    def __init__(self, *, loss_weight: float = 2.0, eps: float = 5e-6) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.eps = eps

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Compute the sum of the losses of the instances.

        Args:
            logits: mask logits. (n, h, w)
            masks: 1 inside the object, 0 outside. (n, h, w)
        """
        return self.loss_weight * dice_loss(logits.flatten(1), masks.flatten(1), self.eps).sum()


def dice_loss(logits: Tensor, masks: Tensor, eps: float) -> Tensor:
    """Compute 1 - 2 * sum(p * m) / (sum(p^2) + sum(m^2)) of each instance, p being the sigmoid of the logits.

    Args:
        logits: mask logits. (n, pixels)
        masks: 1 inside the object, 0 outside. (n, pixels)
        eps: is added to each of the two sums of squares.

    Returns:
        The losses. (n,)

    Source: V-Net, arXiv 1606.04797.
    """
    return _DiceLoss.apply(logits, masks, eps)


class _DiceLoss(torch.autograd.Function):
    """See `dice_loss`. The derivative is computed in place in the forward pass, in half of the time of autograd."""

    @staticmethod
    def forward(ctx, logits: Tensor, masks: Tensor, eps: float) -> Tensor:
        scores = logits.sigmoid()
        squares = scores.square()
        common = (scores * masks).sum(dim=1)
        areas = squares.sum(dim=1) + masks.sum(dim=1) + 2 * eps  # a mask is its own square
        ratio = 2 * common / areas
        # d/dp = (ratio * 2p - 2m) / areas, and d/dx sigmoid = p - p^2
        slope = torch.sub(scores, squares, out=squares)
        derivative = scores.mul_(ratio[:, None]).sub_(masks).mul_(slope).mul_((2 / areas)[:, None])
        ctx.save_for_backward(derivative)
        return 1 - ratio

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * grad[:, None], None, None


def quality_focal_loss(logits: Tensor, labels: Tensor, quality: Tensor, weight: Tensor, beta: float) -> Tensor:
    """Compute the weighted sum of binary cross entropy times |target - score|^beta.

    The target is the quality at a prior's label, and 0 at all other classes.

    Args:
        logits: class logits. (M, C)
        labels: class of each prior, C for background. (M,)
        quality: target score at the label, in [0, 1]. (M,)
        weight: weight of each prior. (M,)
        beta: exponent.

    Returns:
        The loss, a scalar.
    """
    num_classes = logits.size(1)
    own = logits.gather(1, labels.clamp(max=num_classes - 1)[:, None]).squeeze(1)  # (M,)
    score = own.sigmoid()
    background = F.softplus(own) * score.pow(beta)
    foreground = (F.softplus(own) - own * quality) * (quality - score).abs().pow(beta)
    correction = torch.where(labels < num_classes, foreground - background, 0.0)
    return _BackgroundLoss.apply(logits, weight, beta) + (correction * weight).sum()


class _BackgroundLoss(torch.autograd.Function):
    """Sum of weight * softplus(logit) * sigmoid(logit)^beta, the loss if every target is 0.

    The derivative has the same factors as the value, so the forward pass computes it. One tensor of the logits' size is
    kept for the backward pass, instead of the six in autograd's graph.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, weight: Tensor, beta: float) -> Tensor:
        score = logits.sigmoid()
        softplus = F.softplus(logits)
        power = score.square() if beta == 2 else score.pow(beta)
        loss = torch.mv((softplus * power).T, weight).sum()
        # d/dx softplus = score, d/dx score^beta = beta * score^beta * (1 - score)
        derivative = softplus.mul_(beta).addcmul_(softplus, score, value=-1).add_(score).mul_(power)
        ctx.save_for_backward(derivative.mul_(weight[:, None]))
        return loss

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * grad, None, None


def giou(boxes: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """Compute the generalised IoU, in [-1, 1], of pairs of boxes, xyxy, (M, 4), (M, 4) -> (M,)."""
    sides = (torch.minimum(boxes[:, 2:], target[:, 2:]) - torch.maximum(boxes[:, :2], target[:, :2])).clamp(min=0)
    intersection = sides.prod(dim=1)
    union = ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (target[:, 2:] - target[:, :2]).prod(1) - intersection).clamp(
        min=eps
    )
    hull = torch.maximum(boxes[:, 2:], target[:, 2:]) - torch.minimum(boxes[:, :2], target[:, :2])
    enclosing = hull.clamp(min=0).prod(dim=1).clamp(min=eps)
    return intersection / union - (enclosing - union) / enclosing
