"""OpenMMLab's published weights by model size: found in a folder, or downloaded to it."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import RefusedError
from .download import DownloadError, download

HOME = 'RTMDET_HOME'
"""Environment variable: folder with published weights."""
MIRROR = 'RTMDET_MIRROR'
"""Environment variable: address of a server with the same paths as `SITE`, which is asked in its place."""
SITE = 'https://download.openmmlab.com'
_MMDET = f'{SITE}/mmdetection/v3.0/rtmdet'
ADDRESSES = dict(
    nano=f'{SITE}/mmpose/v1/projects/rtmpose/rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e.pth',
    tiny=f'{_MMDET}/rtmdet_tiny_8xb32-300e_coco/rtmdet_tiny_8xb32-300e_coco_20220902_112414-78e30dcc.pth',
    s=f'{_MMDET}/rtmdet_s_8xb32-300e_coco/rtmdet_s_8xb32-300e_coco_20220905_161602-387a891e.pth',
    m=f'{_MMDET}/rtmdet_m_8xb32-300e_coco/rtmdet_m_8xb32-300e_coco_20220719_112220-229f527c.pth',
    l=f'{_MMDET}/rtmdet_l_8xb32-300e_coco/rtmdet_l_8xb32-300e_coco_20220719_112030-5a0be7c4.pth',
    x=f'{_MMDET}/rtmdet_x_8xb32-300e_coco/rtmdet_x_8xb32-300e_coco_20220715_230555-cc79b9ae.pth',
)
"""Address by model size: nano is trained on persons, the others on COCO's 80 classes."""


def home() -> Path:
    """Return the folder with published weights: `RTMDET_HOME`, or `rtmdet` in the user's cache folder."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return Path(os.environ.get(HOME) or cache / 'rtmdet')


def published_weights(size: str, instead: str) -> Path:
    """Return the published weights of a model size, downloaded if they aren't in `home()`.

    Args:
        size: size of the model.
        instead: what the user may do if there are none, for the error.

    Raises:
        RefusedError: if they are neither in `home()` nor can be downloaded; the message has their address.
    """
    address = ADDRESSES[size]
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
                f'the published weights of rtmdet_{size} must be in {file.parent}, got no {file.name}, and its '
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
