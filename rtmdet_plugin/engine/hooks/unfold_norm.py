"""Fine-tune from weights whose batch norms are folded into the convolutions, as in exported models.

In evaluation such a norm only adds a bias. But in training it normalises by the batch statistics, so from the first
step on the network differs from the one that was loaded: RTMDet-nano's person weights lose all their scales.
"""

from typing import TypeGuard

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import RefusedError
from .unwrapped import unwrapped


def is_folded(norm: nn.Module) -> TypeGuard[_BatchNorm]:
    """Return whether a batch norm only adds its bias: mean 0, variance 1, and a non-zero bias, unlike a new norm."""
    return (
        isinstance(norm, _BatchNorm)
        and norm.affine
        and norm.running_mean is not None
        and norm.running_var is not None
        and not norm.running_mean.any()
        and torch.allclose(norm.running_var + norm.eps, torch.ones_like(norm.running_var), rtol=0, atol=1e-6)
        and bool((norm.weight == 1).all())
        and bool(norm.bias.any())
    )


def unfold(norm: _BatchNorm, mean: Tensor, var: Tensor) -> None:
    """Set a folded norm's statistics to those of its input, and adjust weight and bias to compensate.

    Args:
        norm: the layer, modified in place; in evaluation it computes the same as before.
        mean: mean of each channel of its input. (C,)
        var: variance of each channel of its input. (C,)
    """
    with torch.no_grad():
        norm.get_buffer('running_mean').copy_(mean)
        norm.get_buffer('running_var').copy_(var)
        norm.weight.copy_((var + norm.eps).sqrt())
        norm.bias.add_(mean)


@HOOKS.register_module()
class RTMUnfoldNormHook(Hook):
    """Before training, measure the input statistics of folded batch norms on training data, and set them.

    Does nothing if no norm is folded, so a resumed run isn't changed. With several processes each measures its own
    batches, and all use the mean over the processes: DDP has already broadcast the weights, so any difference would
    remain until the end of the run.

    Args:
        num_batches: number of training batches to measure on in each process.

    Raises:
        RefusedError: if `num_batches` is below 1.
    """

    def __init__(self, num_batches: int = 8) -> None:
        if num_batches < 1:
            raise RefusedError(f'num_batches must be at least 1, got {num_batches}')
        self.num_batches = num_batches

    def before_train(self, runner: Runner) -> None:
        """Measure and set the statistics; the checkpoint has been loaded before this."""
        model = unwrapped(runner)
        folded = {name: norm for name, norm in model.named_modules() if is_folded(norm)}
        if not folded:
            return
        sums: dict[str, list[Tensor]] = {name: [] for name in folded}

        def measure(name: str):
            def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
                pixels = inputs[0].transpose(0, 1).flatten(1).double()  # (C, N * H * W)
                sums[name].append(torch.stack([pixels.mean(1), pixels.square().mean(1)]))

            return hook

        handles = [norm.register_forward_pre_hook(measure(name)) for name, norm in folded.items()]
        training = model.training
        model.eval()
        with torch.no_grad():
            for _, data in zip(range(self.num_batches), runner.train_loop.dataloader, strict=False):
                model(**model.data_preprocessor(data, False), mode='tensor')
        model.train(training)
        for handle in handles:
            handle.remove()
        for name, norm in folded.items():
            moments = torch.stack(sums[name]).mean(0)  # (2, C)
            all_reduce(moments, op='mean')
            mean, square = moments
            unfold(norm, mean, (square - mean.square()).clamp(min=0))
        runner.logger.info(f'Set the statistics of {len(folded)} folded batch norms from {len(sums[name])} batches.')
