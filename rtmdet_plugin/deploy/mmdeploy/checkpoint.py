"""Checkpoints are read as data: one from the web must not run code."""

import pickle
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from ...hooks.load_report import compare


def load_model(config: Config, checkpoint: Path) -> nn.Module:
    """The detector of a config with the weights of a checkpoint, in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it isn't a checkpoint, or doesn't hold all of the model.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f'{checkpoint}: no such checkpoint')
    try:
        content = torch.load(checkpoint, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'{checkpoint}: not a checkpoint that PyTorch loads safely: {reason}') from None
    weights = content.get('state_dict', content) if isinstance(content, dict) else {}
    weights = {name.removeprefix('module.'): value for name, value in weights.items() if hasattr(value, 'shape')}

    init_default_scope(config.get('default_scope', 'mmdet'))
    model = revert_sync_batchnorm(MODELS.build(config.model))
    report = compare(model.state_dict(), weights)
    if report.other_shape or report.missing:
        reasons = '; '.join(line.strip() for line in report.lines()[:3])
        raise ValueError(f'{checkpoint} does not fit the config: {reasons}')
    model.load_state_dict(weights, strict=False)
    return model.eval()
