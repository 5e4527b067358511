"""Read and write `.safetensors` files, which hold only tensors and text and so can't carry code.

Needs the package safetensors. A checkpoint's `meta` (class names, config text) is stored in the file's header, each
entry as JSON.
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
    """Load a checkpoint in mmengine's layout.

    Args:
        path: local path of the file.
        map_location: device of the tensors; anything but a device or its name means the CPU.

    Returns:
        `state_dict` and `meta`, which is empty if the file has none.

    Raises:
        FileNotFoundError: if there is no such local file; a URL has to be downloaded first.
        ImportError: if safetensors isn't installed.
        ValueError: if the file is truncated, altered, or of another format.
    """
    package = _package()
    if not Path(path).expanduser().is_file():
        raise FileNotFoundError(f'{path} does not exist; a {SUFFIX} file must be a local path, so download a URL first')
    if not isinstance(map_location, str | torch.device):
        map_location = 'cpu'
    try:
        with package.safe_open(Path(path).expanduser(), framework='pt', device=str(map_location)) as file:
            header = file.metadata() or {}
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dictionary
    except package.SafetensorError as error:
        raise ValueError(f'{path} is cut off, altered, or no {SUFFIX} file ({error})') from None
    return dict(state_dict=state_dict, meta={name: _decoded(text) for name, text in header.items()})


def dump_safetensors(state_dict: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """Return the bytes of a file; tensors that share memory are written once per name.

    Raises:
        ImportError: if safetensors isn't installed.
    """
    package = _package()
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state_dict.items()}
    header = {name: json.dumps(value, default=np.ndarray.tolist) for name, value in meta.items()}
    return package.torch.save(tensors, metadata=dict(header, format='pt'))  # other readers look for 'pt'


def _decoded(text: str) -> Any:
    """Parse a header entry as JSON; return text that isn't JSON, from another program, unchanged."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _package():
    with needed_by(f'a {SUFFIX} file'):
        import safetensors.torch
    return safetensors
