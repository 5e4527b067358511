"""Load a published checkpoint into a module, or fail with the reason."""

from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from ..checkpoints.comparison import compare


def load_pretrained(module: nn.Module, checkpoint: str, *, prefix: str = '') -> None:
    """Load the part of a checkpoint under `prefix` into `module`.

    mmengine's own `Pretrained` initialiser warns about missing keys and continues with random weights; the user notices
    only by the result, hours later. Here the checkpoint must hold every weight.

    Args:
        module: the module whose weights are replaced.
        checkpoint: path or URL.
        prefix: only keys with this prefix, such as 'backbone.', are loaded; the prefix is removed.

    Raises:
        RuntimeError: if the file can't be downloaded or read.
        ValueError: if it lacks weights of the module, or holds them in other shapes.
    """
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    # URLError, timeouts and a missing file are OSErrors; a proxy's page saved as .pth can't be unpickled; a truncated
    # file, or one whose hash isn't that in its name, is a RuntimeError.
    except (OSError, EOFError, UnpicklingError, RuntimeError) as error:
        raise RuntimeError(_advice(checkpoint, error)) from None
    state_dict = loaded.get('state_dict', loaded)
    state_dict = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}

    expected = module.state_dict()
    report = compare(expected, state_dict)
    if report.missing or report.other_shape:
        details = [f'{name} must be {tuple(expected[name].shape)}, but is not in the file' for name in report.missing]
        details += [f'{name} must be {ours}, got {theirs}' for name, (theirs, ours) in report.other_shape.items()]
        raise ValueError(
            f'{checkpoint} does not fit {type(module).__name__}: {len(details)} of {len(expected)} tensors cannot be '
            f'loaded from it (keys with the prefix {prefix!r}). Choose the checkpoint of the same size. The first '
            'tensors:\n  ' + '\n  '.join(details[:5])
        )
    module.load_state_dict({k: state_dict.get(k, v) for k, v in expected.items()})
    print_log(f'{type(module).__name__}: {len(expected)} tensors loaded from {checkpoint}', logger='current')


def _advice(checkpoint: str, error: Exception) -> str:
    remedy = f'check the path {checkpoint}'
    if urlparse(checkpoint).scheme in ('http', 'https'):
        cache = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(checkpoint).path).name)
        remedy = f'put the file at {cache}'
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f'Pretrained weights not available: {checkpoint} ({reason}). Either {remedy}, or train without them: '
        '--cfg-options model.backbone.init_cfg=None'
    )
