"""Fine-tuning from weights whose batch norms were folded into the convolutions, as exported models have them.

Such a norm is the identity plus a bias. In training it normalises by the batch all the same, so from the first
step on the network isn't the one that was loaded: RTMDet-nano's person weights lose all their scales.
"""

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import RefusedError
from .unwrapped import unwrapped


def is_folded(norm: nn.Module) -> bool:
    """Whether a batch norm only adds its bias: mean 0, deviation 1, and not the fresh norm's bias of 0."""
    return (
        isinstance(norm, _BatchNorm)
        and norm.affine
        and norm.running_mean is not None
        and not norm.running_mean.any()
        and torch.allclose(norm.running_var + norm.eps, torch.ones_like(norm.running_var), rtol=0, atol=1e-6)
        and bool((norm.weight == 1).all())
        and bool(norm.bias.any())
    )


def unfold(norm: _BatchNorm, mean: Tensor, var: Tensor) -> None:
    """Give a folded norm the statistics of its input, and the weight and bias that undo them.

    Args:
        norm: the layer; in evaluation it computes the same as before.
        mean, var: of its input, for each channel. (C,)
    """
    with torch.no_grad():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_((var + norm.eps).sqrt())
        norm.bias.add_(mean)


@HOOKS.register_module()
class RTMUnfoldNormHook(Hook):
    """Before training, measure the statistics of folded batch norms on training data, and write them back.

    Where no norm is folded it does nothing, so a resumed run goes on as it was. Of several processes each measures
    its own batches, and all write the mean over the processes: DDP has broadcast the weights by then, so what
    differed here would differ to the end.

    Args:
        num_batches: training batches to measure on, in each process.

    Raises:
        RefusedError: where `num_batches` is below 1.
    """

    def __init__(self, num_batches: int = 8) -> None:
        if num_batches < 1:
            raise RefusedError(f'num_batches={num_batches}: expected 1 or more')
        self.num_batches = num_batches

    def before_train(self, runner: Runner) -> None:
        """Measure and write; checkpoints are loaded by now."""
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
        runner.logger.info(f'{len(folded)} folded batch norms were given the statistics of {len(sums[name])} batches.')
