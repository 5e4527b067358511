"""Load a detector from a config and a checkpoint, for inference and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader

from rtmdet_plugin_startup import config_path

from .comparison import compare
from .config_as_data import find_config
from .finite import check_finite
from .fit_to_model import fit_to_model

if TYPE_CHECKING:
    from mmdet.models import BaseDetector


def is_config(data: str) -> bool:
    """Return whether a command's argument for data names a config rather than a dataset."""
    return data.endswith('.py') or '::' in data


def config_file(source: str | Path) -> Path:
    """Return the file of a config from its path or name.

    Raises:
        FileNotFoundError: see `rtmdet_plugin_startup.config_path`.
    """
    return Path(config_path(str(source)))


def load_config(source: str | Path | Config) -> Config:
    """Load a config of any kind; return a `Config` unchanged.

    Raises:
        FileNotFoundError: see `config_file`.
        ValueError: if mmengine can't read the file.
    """
    if isinstance(source, Config):
        return source
    path = config_file(source)
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program: it can raise any exception
        raise ValueError(f'{path}: not a config that mmengine can read: {type(error).__name__}: {error}') from None


def read_config(source: str | Path | Config) -> Config:
    """Load the config of a detector.

    Raises:
        FileNotFoundError: see `config_file`.
        ValueError: if mmengine can't read the file, or the config holds no detector.
    """
    config = load_config(source)
    model = config.get('model')
    if not isinstance(model, dict) or not isinstance(model.get('backbone'), dict):
        raise ValueError(f'{config_name(config)}: must be the config of a detector, but it has no model.backbone')
    return config


def config_name(config: Config) -> str:
    """Return the name of a config for error messages."""
    return config.filename or 'the config'


def load_model(config: str | Path | Config | None, checkpoint: str | Path) -> BaseDetector:
    """Build the model of a config on the CPU, with the weights of a checkpoint, in evaluation mode.

    Args:
        config: of mmdet: a file, the name of a shipped one (see `config_file`), or an object. None for the one in the
            checkpoint or next to it, which isn't run, see `find_config`.
        checkpoint: file with `state_dict`, as mmengine saves it, or `.safetensors`. No code in it runs. It must hold
            every weight of the model and nothing else; those of mmyolo's RTMDet are renamed.

    Returns:
        The detector; `cfg` is the config, `dataset_meta` what the checkpoint says about its classes.

    Raises:
        FileNotFoundError: if one of the files doesn't exist.
        ValueError: if the config can't be read, the checkpoint doesn't fit it, or a weight isn't finite; see
            `find_config`, `checkpoint_parts`, `check_finite` and `fit_to_model`.
        UnsafeCheckpointError: if the checkpoint asks for a class or function that isn't data.
        DamagedCheckpointError: if the checkpoint is truncated, altered, or of another format.
    """
    cfg = None if config is None else read_config(config)
    path = Path(checkpoint)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint')
    # Safely, see compat/torch_load.py.
    content = CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger='silent')
    weights, meta = checkpoint_parts(path, content)
    weights = {name.removeprefix('module.'): value for name, value in weights.items() if hasattr(value, 'shape')}
    check_finite(weights, path)
    if cfg is None:
        cfg = read_config(find_config(path, content.get('meta')))

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model_config = cfg.model.copy()
    model_config.backbone = {**model_config.backbone, 'init_cfg': None}  # avoids a download of weights to be replaced
    try:
        model = revert_sync_batchnorm(MODELS.build(model_config))
    except (KeyError, TypeError, AttributeError, AssertionError) as error:  # an unknown type or argument, a bad value
        raise ValueError(f'{config_name(cfg)}: its model cannot be built: {error}') from None
    weights = fit_to_model(model, weights, content.get('meta'), path)
    report = compare(model.state_dict(), weights)
    if not report.complete:
        raise ValueError(f'{path} does not fit the model of {config_name(cfg)}: {report.summary()}')
    model.load_state_dict(weights, strict=False)  # only `num_batches_tracked` may be missing
    model.cfg = cfg
    model.dataset_meta = {key.lower(): value for key, value in meta.items()}
    return model.eval()


def checkpoint_parts(path: Path, content: object) -> tuple[dict, dict]:
    """Split the content of a checkpoint.

    Args:
        path: file of the checkpoint, for error messages.
        content: what the file holds: a checkpoint of mmengine, or a bare state dict.

    Returns:
        The state dict, and the dataset's metadata (class names), which may be empty.

    Raises:
        ValueError: if one of them isn't a dict with string keys.
    """
    parts: dict[str, Any] = {'content': content}
    if isinstance(content, dict):
        parts['state_dict'] = content.get('state_dict', content)
        parts['meta'] = content.get('meta') or {}
        if isinstance(parts['meta'], dict):
            parts['dataset_meta'] = parts['meta'].get('dataset_meta') or {}
    for name, part in parts.items():
        if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
            found = 'a dict with other keys' if isinstance(part, dict) else type(part).__name__
            raise ValueError(f'{path}: {name} must be a dict with string keys, got {found}; it is no checkpoint')
    return parts['state_dict'], parts['dataset_meta']
