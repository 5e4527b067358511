"""Find out with which `exp_on_reg` weights were trained: their regression gives distances, or the logarithms of them.

mmdet's m, l and x predict logarithms, its nano, tiny and s distances; mmyolo predicts distances at all sizes. Weights
that are decoded the other way load without an error and give wrong boxes, so a conversion records the setting.
"""

import ast
from collections.abc import Mapping

from torch import Tensor

KEY = 'exp_on_reg'
"""Name of the setting in a checkpoint's `meta`."""
WIDTHS = {64: False, 96: False, 128: False, 192: True, 256: True, 320: True}
"""Channels of the head: the setting, in mmdet's nano to x."""


def recorded_exp_on_reg(meta: object) -> bool | None:
    """Return the setting that a checkpoint records, or None.

    Args:
        meta: `meta` of the checkpoint. Its entry `exp_on_reg`, which a conversion writes, comes first; next is the
            config's text, which mmengine writes as `cfg` and which is parsed but not run.

    Raises:
        ValueError: if the entry `exp_on_reg` is no bool.
    """
    if not isinstance(meta, Mapping):
        return None
    recorded = meta.get(KEY)
    if recorded is not None and not isinstance(recorded, bool):
        raise ValueError(f"{KEY} in the checkpoint's meta must be true or false, got {recorded!r}")
    return _in_config(meta.get('cfg')) if recorded is None else recorded


def mmdet_exp_on_reg(state_dict: Mapping[str, Tensor], meta: object) -> bool:
    """Return the setting of weights with mmdet's names: the recorded one, or that of mmdet's model of the same width.

    Raises:
        ValueError: if it is not recorded and no model of mmdet has this width; see `recorded_exp_on_reg` as well.
    """
    recorded = recorded_exp_on_reg(meta)
    if recorded is not None:
        return recorded
    name = next(name for name in state_dict if name.endswith('bbox_head.rtm_reg.0.weight'))
    width = state_dict[name].shape[1]
    if width not in WIDTHS:
        raise ValueError(
            f"{KEY} must be known, got a checkpoint that does not record it, with {width} channels in {name} (mmdet's "
            f'sizes have {", ".join(map(str, WIDTHS))}); take a checkpoint as the training saved it, with its config '
            'in meta'
        )
    return WIDTHS[width]


def _in_config(text: object) -> bool | None:
    """Return `model.bbox_head.exp_on_reg` of a config's text, or None."""
    if not isinstance(text, str):
        return None
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the text of a checkpoint can be anything
        return None
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id='model')], value=ast.Call() as model):
                setting = _argument(_argument(model, 'bbox_head'), KEY)
                value = getattr(setting, 'value', None)  # of a constant
                return value if isinstance(value, bool) else None
    return None


def _argument(call: ast.expr | None, name: str) -> ast.expr | None:
    """Return a keyword argument of `dict(...)`."""
    keywords = call.keywords if isinstance(call, ast.Call) else ()
    return next((keyword.value for keyword in keywords if keyword.arg == name), None)
