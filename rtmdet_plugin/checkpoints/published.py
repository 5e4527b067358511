"""OpenMMLab's published weights by model: found in a folder, or downloaded to it."""

from __future__ import annotations

import os
from pathlib import Path

from rtmdet_runtime.choices import MODELS

from ..errors import RefusedError
from .download import DownloadError, download

HOME = 'RTMDET_HOME'
"""Environment variable: folder with published weights."""
MIRROR = 'RTMDET_MIRROR'
"""Environment variable: address of a server with the same paths as `SITE`, which is asked in its place."""
SITE = 'https://download.openmmlab.com'
_OF_MMDET = dict(
    tiny='rtmdet_tiny_8xb32-300e_coco_20220902_112414-78e30dcc',
    s='rtmdet_s_8xb32-300e_coco_20220905_161602-387a891e',
    m='rtmdet_m_8xb32-300e_coco_20220719_112220-229f527c',
    l='rtmdet_l_8xb32-300e_coco_20220719_112030-5a0be7c4',
    x='rtmdet_x_8xb32-300e_coco_20220715_230555-cc79b9ae',
) | {
    'ins-tiny': 'rtmdet-ins_tiny_8xb32-300e_coco_20221130_151727-ec670f7e',
    'ins-s': 'rtmdet-ins_s_8xb32-300e_coco_20221121_212604-fdc5d7ec',
    'ins-m': 'rtmdet-ins_m_8xb32-300e_coco_20221123_001039-6eba602e',
    'ins-l': 'rtmdet-ins_l_8xb32-300e_coco_20221124_103237-78d1d652',
    'ins-x': 'rtmdet-ins_x_8xb16-300e_coco_20221124_111313-33d4595b',
}
"""Name of mmdet's weights by model: that of the config, date, time, and the beginning of the file's SHA-256."""
ADDRESSES = dict(nano=f'{SITE}/mmpose/v1/projects/rtmpose/rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e.pth') | {
    model: f'{SITE}/mmdetection/v3.0/rtmdet/{name.rsplit("_", 2)[0]}/{name}.pth' for model, name in _OF_MMDET.items()
}
"""Address by model: nano is trained on persons, the others on COCO's 80 classes."""


def home() -> Path:
    """Return the folder with published weights: `RTMDET_HOME`, or `rtmdet` in the user's cache folder."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return Path(os.environ.get(HOME) or cache / 'rtmdet')


def published_weights(model: str, instead: str) -> Path:
    """Return the published weights of a model, downloaded if they aren't in `home()`.

    Args:
        model: name of the model, see `MODELS`.
        instead: what the user may do if there are none, for the error.

    Raises:
        RefusedError: if they are neither in `home()` nor can be downloaded; the message has their address.
    """
    address = ADDRESSES[model]
    file = home() / address.rpartition('/')[2]
    if not file.is_file():
        try:
            # The names of published files end in the first digits of their SHA-256.
            download(mirrored(address), file, sha256=file.stem.rpartition('-')[2])
        except OSError as error:
            reason = (
                error if isinstance(error, DownloadError) else f'{file.parent} can not be written: {error.strerror}'
            )
            raise RefusedError(
                f'the published weights of {MODELS[model]} must be in {file.parent}, got no {file.name}, and its '
                f'download failed: {reason}; put {address} there yourself, set {HOME} to a folder that has it or '
                f'{MIRROR} to a mirror, {instead}'
            ) from None
    return file.resolve()


def mirrored(address: str) -> str:
    """Return the address on the mirror, if one is set.

    Raises:
        RefusedError: if the mirror isn't an http(s) address.
    """
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return address
    if not mirror.startswith(('http://', 'https://')):
        raise RefusedError(f'{MIRROR} must begin with http:// or https://, got {mirror!r}')
    return mirror.rstrip('/') + address.removeprefix(SITE)
