"""A detector out of a config and a checkpoint, for use and not for training."""

from __future__ import annotations

from pathlib import Path

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from torch import nn

from ..hooks.load_report import LoadReport, compare


def read_config(config: str | Path | Config) -> Config:
    """A config from its file.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it can't be read, or holds no detector.
    """
    if not isinstance(config, Config):
        path = Path(config)
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no such config')
        try:
            config = Config.fromfile(path)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f'{path}: not a config that mmengine reads: {error}') from None
        if 'backbone' not in config.get('model', {}):
            raise ValueError(f'{path}: not the config of a detector, it has no model.backbone')
    return config


def load_model(config: str | Path | Config, checkpoint: str | Path) -> nn.Module:
    """Build the model of a config on the CPU, with the weights of a checkpoint, in evaluation mode.

    Args:
        config: of mmdet, a file or an object.
        checkpoint: file with `state_dict`, as mmengine saves it, or `.safetensors`. No code in it runs. It must hold
            every weight of the model and nothing else.

    Returns:
        The detector; `cfg` is the config, `dataset_meta` what the checkpoint says about its classes.

    Raises:
        FileNotFoundError: where one of the files isn't there.
        ValueError: where the config can't be read, or the two don't fit each other.
        UnsafeCheckpointError: where the checkpoint asks for code.
        DamagedCheckpointError: where it is cut off, altered, or no checkpoint.
    """
    config = read_config(config)
    path = Path(checkpoint)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint')
    content = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')  # safely, see compat/torch_load.py
    weights = content.get('state_dict', content) if isinstance(content, dict) else {}
    weights = {name.removeprefix('module.'): value for name, value in weights.items() if hasattr(value, 'shape')}

    init_default_scope(config.get('default_scope', 'mmdet'))
    model_config = config.model.copy()
    model_config.backbone = {**model_config.backbone, 'init_cfg': None}  # a download for nothing
    try:
        model = revert_sync_batchnorm(MODELS.build(model_config))
    except (KeyError, TypeError, AttributeError) as error:  # an unknown type, or an argument that it hasn't
        raise ValueError(f'{config.filename}: its model can not be built: {error}') from None
    report = compare(model.state_dict(), weights)
    if not report.complete:
        raise ValueError(f'{path} does not fit the model of {config.filename}: {misfit(report)}')
    model.load_state_dict(weights, strict=False)  # only `num_batches_tracked` may be missing
    model.cfg = config
    meta = content.get('meta', {})
    model.dataset_meta = {key.lower(): value for key, value in (meta.get('dataset_meta') or {}).items()}
    return model.eval()


def misfit(report: LoadReport) -> str:
    """What differs, in numbers and an example of each kind."""
    reasons = []
    if report.other_shape:
        name, (theirs, ours) = next(iter(report.other_shape.items()))
        reasons.append(f'{len(report.other_shape)} tensors have another shape ({name}: {theirs}, the model {ours})')
    for names, what in ((report.missing, 'are missing'), (report.unexpected, 'are not in the model')):
        if names:
            reasons.append(f'{len(names)} {what} ({names[0]})')
    return '; '.join(reasons)
