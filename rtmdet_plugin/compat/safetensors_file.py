"""`.safetensors`: a format of tensors and text only, which can't carry code. Needs the package safetensors.

A checkpoint's `meta` (class names, config text) is in the file's header, each entry as JSON.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rtmdet_runtime.messages import needed_by

SUFFIX = '.safetensors'


def load_safetensors(path: str, map_location: Any = None) -> dict:
    """A checkpoint as mmengine's: `state_dict`, and `meta` where the file has one.

    Raises:
        FileNotFoundError: where there is no such file; a URL has to be downloaded first.
        ImportError: where safetensors isn't installed.
        ValueError: where the file isn't whole.
    """
    package = _package()
    if not Path(path).expanduser().is_file():
        raise FileNotFoundError(f'{path} can not be found (a local path is accepted)')
    if not isinstance(map_location, str | torch.device):
        map_location = 'cpu'
    try:
        with package.safe_open(Path(path).expanduser(), framework='pt', device=str(map_location)) as file:
            header = file.metadata() or {}
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
    except package.SafetensorError as error:
        raise ValueError(f'{path} is cut off, altered, or no {SUFFIX} file ({error})') from None
    return dict(state_dict=state_dict, meta={name: _decoded(text) for name, text in header.items()})


def dump_safetensors(state_dict: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """The content of a file; tensors that share memory are written once for each name.

    Raises:
        ImportError: where safetensors isn't installed.
    """
    package = _package()
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state_dict.items()}
    header = {name: json.dumps(value, default=np.ndarray.tolist) for name, value in meta.items()}
    return package.torch.save(tensors, metadata=dict(header, format='pt'))  # 'pt' is what other readers look for


def _decoded(text: str) -> Any:
    """A header entry; text that another program wrote isn't JSON and stays as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _package():
    with needed_by(f'a {SUFFIX} file'):
        import safetensors.torch
    return safetensors
