"""Access to the detector of a run, with or without wrappers."""

from mmengine.model import BaseModel, BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner


def unwrapped(runner: Runner) -> BaseModel:
    """Return the model without the wrappers for several processes and for test-time augmentation (`--tta`)."""
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
