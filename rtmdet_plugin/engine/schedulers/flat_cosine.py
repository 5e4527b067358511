"""RTMDet's learning rate: flat for half of the run, then a cosine down to a fraction of it.

Difference from mmdet's config, which is CosineAnnealingLR with `begin`, `end` and `T_max` as literals: the
half is that of the actual run, and the value is the current lr times a factor, so a warm-up that reaches into
the second half of a short run multiplies with it instead of upsetting the recursion.
"""

import math

from mmdet.registry import PARAM_SCHEDULERS
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from torch.optim import Optimizer

from ...errors import RefusedError


def flat_cosine(step: int, end: int, eta_min_ratio: float) -> float:
    """Factor on the base lr at `step` of `end`: 1 up to the middle, `eta_min_ratio` at the end."""
    middle = end // 2
    if step <= middle:
        return 1.0
    progress = min(1.0, (step - middle) / (end - middle))
    return eta_min_ratio + (1 - eta_min_ratio) * (1 + math.cos(math.pi * progress)) / 2


@PARAM_SCHEDULERS.register_module()
class RTMFlatCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Flat learning rate, then a cosine over the second half of the run.

    Args:
        optimizer: what holds the learning rates; they are multiplied, each group's from its own value.
        end: length of the run, in iterations or (by_epoch) epochs. mmengine's Runner fills in the actual
            length.
        eta_min_ratio: fraction of the base lr that the cosine ends at, in [0, 1].
        by_epoch: whether a step is an epoch. The configs say False: a new value every iteration. The default has
            to be mmengine's: where a config says nothing, its Runner fills in `end` in epochs.
        last_step: number of the last step, -1 for a new run.
        verbose: whether every change is printed.

    Raises:
        RefusedError: where `eta_min_ratio` is outside [0, 1], or `end` isn't positive.
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
            raise RefusedError(f'eta_min_ratio={eta_min_ratio}: expected a fraction of the base lr, 0 to 1')
        self.eta_min_ratio = eta_min_ratio
        self.factor = 1.0
        super().__init__(optimizer, end=end, last_step=last_step, by_epoch=by_epoch, verbose=verbose)

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on from a checkpoint, along the curve of *this* run, also where its `max_epochs` is another one.

        mmdet's checkpoints (CosineAnnealingLR of the same schedule) fit as well.
        """
        saved_end = state_dict['end']
        position = ('last_step', '_global_step', '_last_value', 'base_values')
        super().load_state_dict({key: state_dict[key] for key in position})
        # The factor that is in the optimizer's lr now.
        self.factor = flat_cosine(self._global_step, saved_end, self.eta_min_ratio)

    def _get_value(self) -> list[float]:
        """The next learning rate of each group."""
        previous, self.factor = self.factor, flat_cosine(self._global_step, self.end, self.eta_min_ratio)
        return [group[self.param_name] * (self.factor / previous) for group in self.optimizer.param_groups]
