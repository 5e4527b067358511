"""RTMDet's learning rate: constant in the first half of the run, then a cosine down to a fraction of it.

Differences from mmdet's config, which is CosineAnnealingLR with literal values for `begin`, `end` and `T_max`: the half
is computed from the actual length of the run, and the value is the current lr times a factor. So a warm-up that extends
into the second half of a short run multiplies with it, instead of breaking the recursion.
"""

import math

from mmdet.registry import PARAM_SCHEDULERS
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from torch.optim import Optimizer

from ...errors import RefusedError


def flat_cosine(step: int, end: int, eta_min_ratio: float) -> float:
    """Compute the factor on the base lr at `step` of `end`: 1 up to the middle, `eta_min_ratio` at the end."""
    middle = end // 2
    if step <= middle:
        return 1.0
    progress = min(1.0, (step - middle) / (end - middle))
    return eta_min_ratio + (1 - eta_min_ratio) * (1 + math.cos(math.pi * progress)) / 2


@PARAM_SCHEDULERS.register_module()
class RTMFlatCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Constant learning rate, then a cosine over the second half of the run.

    Args:
        optimizer: the optimiser or its wrapper; each group's learning rate is multiplied by the factor.
        end: length of the run, in iterations or (by_epoch) epochs. mmengine's Runner sets the actual length.
        eta_min_ratio: fraction of the base lr at the end of the cosine, in [0, 1].
        by_epoch: whether a step is an epoch. The configs set False: a new value in every iteration. The default must
            be mmengine's, because its Runner sets `end` in epochs if a config doesn't set `by_epoch`.
        last_step: number of the last step, -1 for a new run.
        verbose: whether to print every change.

    Raises:
        RefusedError: if `eta_min_ratio` is outside [0, 1].
        ValueError: if `end` isn't positive.
    """

    def __init__(
        self,
        optimizer: Optimizer | OptimWrapper,
        end: int,
        eta_min_ratio: float = 0.05,
        by_epoch: bool = True,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        if not 0 <= eta_min_ratio <= 1:
            raise RefusedError(f'eta_min_ratio must be a fraction of the base lr, 0 to 1, got {eta_min_ratio}')
        self.eta_min_ratio = eta_min_ratio
        self.factor = 1.0
        super().__init__(optimizer, end=end, last_step=last_step, by_epoch=by_epoch, verbose=verbose)

    def load_state_dict(self, state_dict: dict) -> None:
        """Resume from a checkpoint, along the curve of *this* run, even if its `max_epochs` differs.

        Checkpoints of mmdet (CosineAnnealingLR with the same schedule) can be resumed as well.
        """
        saved_end = state_dict['end']
        position = ('last_step', '_global_step', '_last_value', 'base_values')
        super().load_state_dict({key: state_dict[key] for key in position})
        # The factor that the optimiser's current lr includes.
        self.factor = flat_cosine(self._global_step, saved_end, self.eta_min_ratio)

    def _get_value(self) -> list[float]:
        """Compute the next learning rate of each group."""
        previous, self.factor = self.factor, flat_cosine(self._global_step, self.end, self.eta_min_ratio)
        return [group[self.param_name] * (self.factor / previous) for group in self.optimizer.param_groups]
