"""Weights of RTMDet from mmyolo's stack to mmdet's, and back, with what `meta` must say about them."""

from collections.abc import Mapping

from torch import Tensor

from .exp_on_reg import KEY, mmdet_exp_on_reg
from .mmyolo_keys import Stack, rename


def convert_weights(state_dict: Mapping[str, Tensor], meta: Mapping, to: Stack) -> tuple[dict[str, Tensor], dict]:
    """Return weights by the names of the other stack, and their `meta`.

    The config's text is dropped from `meta` because it builds a model of the stack that the weights are from. In
    weights from mmyolo, `meta` has `exp_on_reg=False`.

    Args:
        state_dict: weights of an RTMDet detector; no tensor is changed or copied.
        meta: `meta` of the checkpoint.
        to: stack of the new names.

    Raises:
        ValueError: see `rename`, `mmdet_exp_on_reg`; also for weights that predict logarithms of distances, which
            mmyolo's head would not exponentiate.
    """
    renamed = rename(state_dict, to)
    if to == 'mmyolo' and mmdet_exp_on_reg(state_dict, meta):
        raise ValueError(
            'exp_on_reg must be False in weights for mmyolo, whose head never exponentiates the distances, got True '
            "(as in mmdet's m, l and x): mmyolo would decode other boxes; train with model.bbox_head.exp_on_reg=False"
        )
    kept = {name: value for name, value in meta.items() if name not in ('cfg', KEY)}
    return renamed, kept | ({KEY: False} if to == 'mmdet' else {})
