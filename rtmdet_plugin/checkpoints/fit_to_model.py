"""Fit the weights of a checkpoint to a model: rename those of mmyolo, refuse or drop those that it would misuse.

In a config of mmyolo, our neck or head has mmdet's names, and the other part may keep mmyolo's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from ..errors import RefusedError
from .comparison import MASK_LAYER
from .exp_on_reg import recorded_exp_on_reg
from .mmyolo_keys import CLASSES, HEAD, ONLY_MMDET, has_mmyolo_keys, rename

RTMDET = (f'bbox_head.{CLASSES}', HEAD + CLASSES)
"""Beginnings of names that only RTMDet has, in mmdet and in mmyolo."""
BOX_BRANCH = ('bbox_head.reg_convs.', 'bbox_head.rtm_reg.')
"""Beginnings of the names of layers that belong to the boxes only in RTMDet, and not in RTMDet-Ins."""
LOADERS = (
    'mmengine.runner.checkpoint', 'mmengine.runner.runner', 'mmengine.infer.infer', 'mmdet.apis.det_inferencer',
)  # fmt: skip
"""Modules with mmengine's function that copies a checkpoint into a model: the first defines, the others import it."""


def fit_to_model(
    model: nn.Module, state_dict: Mapping[str, Tensor], meta: object, source: str | Path
) -> Mapping[str, Tensor]:
    """Return weights by the names of a model: those of mmyolo's RTMDet are renamed for mmdet's RTMDet and ours.

    RTMDet-Ins has one tower for classes and boxes, under both names, and decodes boxes in another way. So it takes the
    class branch of a checkpoint without masks, and not the box branch, which would overwrite the same layers.

    Args:
        model: any model; nothing is changed or checked unless it is an RTMDet whose neck or head has mmdet's names.
        state_dict: weights of any model.
        meta: `meta` of the checkpoint.
        source: name of the checkpoint, for messages.

    Returns:
        The fitted weights, or `state_dict` itself if nothing has to be renamed or dropped.

    Raises:
        RefusedError: if the weights are those of another detector of mmyolo, if they have keys of both stacks, or if
            the model's `exp_on_reg` is not the one that they were trained with.
    """
    names = model.state_dict().keys()
    if not all(any(name.startswith(prefixes) for name in names) for prefixes in (RTMDET, ONLY_MMDET)):
        return state_dict
    bare = [name.removeprefix('module.') for name in state_dict]
    from_mmyolo = has_mmyolo_keys(name for name in bare if name not in names)
    fitted = state_dict
    try:
        with_masks = any(name.startswith(MASK_LAYER) for name in bare)  # decoded in another way at all sizes
        trained = False if from_mmyolo else None if with_masks else recorded_exp_on_reg(meta)
        if from_mmyolo:
            renamed = rename(state_dict, 'mmdet').items()
            fitted = {old if old in names else new: value for old, (new, value) in zip(bare, renamed, strict=True)}
    except ValueError as error:
        raise RefusedError(f'{source}: {error}') from None
    decoded = getattr(getattr(model, 'bbox_head', None), 'exp_on_reg', None)
    if None not in (trained, decoded) and trained != decoded:
        reason = ', as all of mmyolo' if from_mmyolo else ''
        raise RefusedError(
            f'{source}: model.bbox_head.exp_on_reg must be {trained}, with which the weights were trained{reason}, got '
            f'{decoded}: boxes would be decoded wrongly; set it in the config, or by '
            f'--cfg-options model.bbox_head.exp_on_reg={trained}'
        )
    if not with_masks and any(name.startswith(MASK_LAYER) for name in names):
        kept = {
            name: value for name, value in fitted.items() if not name.removeprefix('module.').startswith(BOX_BRANCH)
        }
        return kept if len(kept) < len(fitted) else fitted
    return fitted


def fit_all_checkpoints() -> None:
    """Let mmengine's Runner and `load_checkpoint` and mmdet's DetInferencer use `fit_to_model`.

    mmdet's and mmdeploy's other functions load through these. Calling this again changes nothing.
    """
    for name in LOADERS:
        module = sys.modules.get(name)  # one that is imported later takes the function from the first
        # Private, so if it isn't there, a checkpoint is loaded as it is.
        load = getattr(module, '_load_checkpoint_to_model', None)
        if load is not None and not hasattr(load, '__wrapped__'):
            setattr(module, load.__name__, _fitting(load))


def _fitting(load: Callable) -> Callable:
    @functools.wraps(load)
    def load_checkpoint_to_model(model: nn.Module, checkpoint: object, *args, **kwargs) -> object:
        if isinstance(checkpoint, dict):
            weights = checkpoint.get('state_dict', checkpoint)
            fitted = fit_to_model(model, weights, checkpoint.get('meta'), 'the checkpoint')
            if fitted is not weights:
                checkpoint = {**(checkpoint if 'state_dict' in checkpoint else {}), 'state_dict': fitted}
        return load(model, checkpoint, *args, **kwargs)

    return load_checkpoint_to_model
