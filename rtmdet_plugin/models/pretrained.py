"""Start a module from a published checkpoint, or say why not."""

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

    mmengine's own `Pretrained` initialiser warns about missing keys and goes on with random weights; a training run
    that started so is only noticed by its result, hours later. Here every weight must be there.

    Args:
        module: the module to fill.
        checkpoint: path or URL.
        prefix: only keys that begin with it are taken, without it, such as 'backbone.'.

    Raises:
        RuntimeError: where the file can't be downloaded or read.
        ValueError: where it lacks weights of the module, or has them in other shapes.
    """
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    # URLError, timeouts and a missing file are OSErrors; a proxy's page saved as .pth can't be unpickled; a file that
    # is cut off or has another hash than its name says is a RuntimeError.
    except (OSError, EOFError, UnpicklingError, RuntimeError) as error:
        raise RuntimeError(_advice(checkpoint, error)) from None
    state_dict = loaded.get('state_dict', loaded)
    state_dict = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}

    expected = module.state_dict()
    report = compare(expected, state_dict)
    if report.missing or report.other_shape:
        details = [f'{name}: {tuple(expected[name].shape)} wanted, not in the file' for name in report.missing]
        details += [f'{name}: {ours} wanted, {theirs} found' for name, (theirs, ours) in report.other_shape.items()]
        raise ValueError(
            f'{checkpoint} does not fit {type(module).__name__}: {len(details)} of {len(expected)} tensors can not be '
            f'taken from it (keys under {prefix!r}). Choose the checkpoint of the same size. The first ones:\n  '
            + '\n  '.join(details[:5])
        )
    module.load_state_dict({k: state_dict.get(k, v) for k, v in expected.items()})
    print_log(f'{type(module).__name__}: {len(expected)} tensors loaded from {checkpoint}', logger='current')


def _advice(checkpoint: str, error: Exception) -> str:
    where = f'check the path {checkpoint}'
    if urlparse(checkpoint).scheme in ('http', 'https'):
        cache = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(checkpoint).path).name)
        where = f'put the file at {cache}'
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f'Pretrained weights not available: {checkpoint} ({reason}). Either {where}, or go without: '
        '--cfg-options model.backbone.init_cfg=None'
    )
