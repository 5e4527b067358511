"""The model of a run, whether or not it is wrapped for several processes."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrapped(runner: Runner) -> nn.Module:
    """The model, out of any wrapper for several processes."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
