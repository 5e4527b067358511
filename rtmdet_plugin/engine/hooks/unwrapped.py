"""Access to the model of a run, with or without a wrapper for several processes."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrapped(runner: Runner) -> nn.Module:
    """Return the model without any wrapper for several processes."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
