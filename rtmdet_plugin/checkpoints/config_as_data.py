"""Read the config of a checkpoint's model without running it: from the checkpoint, or from the file next to it.

mmengine runs a config as a program, but a checkpoint from the web must not run code. Here only assignments of plain
values are read, as mmengine writes them into checkpoints and work folders. A `type` in a config names what to call with
which arguments, so only the types of RTMDet are accepted.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config

PARTS = ('model', 'test_pipeline', 'test_dataloader')
"""Variables of a config that a prediction needs; others are ignored."""
TYPES = frozenset(
    (
        *('RTMDet', 'DetDataPreprocessor', 'RTMDetDataPreprocessor'),
        *('CSPNeXt', 'CSPNeXtPAFPN', 'RTMDetSepBNHead', 'RTMCSPNeXt', 'RTMCSPNeXtPAFPN', 'RTMSepBNHead'),
        *('RTMDetInsSepBNHead', 'RTMInsSepBNHead', 'DiceLoss', 'RTMDiceLoss'),
        *('MlvlPointGenerator', 'DistancePointBBoxCoder'),
        *('QualityFocalLoss', 'GIoULoss', 'RTMQualityFocalLoss', 'RTMGIoULoss'),
        *('BN', 'SyncBN', 'GN', 'LN', 'SiLU', 'ReLU', 'LeakyReLU', 'nms'),
    )
)
"""Types in `model` that are built, without mmdet's scope."""
SHIPPED = re.compile('rtmdet([-_]ins)?_(nano|tiny|s|m|l|x)(?![a-z])')
"""Name of a shipped config, which is that of OpenMMLab's with `_` for `-`."""
UNUSED = ('_scope_', 'init_cfg', 'batch_augments', 'train_cfg')
"""Keys in `model` that a prediction doesn't need."""


def find_config(checkpoint: Path, meta: object) -> Config | str:
    """Return the config of a checkpoint's model, or the name of a shipped one.

    It is the one in `meta`; else the `.py` file next to the checkpoint with its name; else the shipped one that the
    checkpoint's name begins with, as that of OpenMMLab's published weights.

    Raises:
        ValueError: if there is none, or it can't be read as data; the message asks for the argument `config`.
    """
    text = meta.get('cfg') if isinstance(meta, dict) else None
    if isinstance(text, str):
        return read_as_data(text, f'the config in {checkpoint}')
    file = checkpoint.with_suffix('.py')
    if file.is_file():
        return read_as_data(file.read_text(errors='replace'), str(file))
    if shipped := SHIPPED.match(checkpoint.name):
        name = shipped[0].replace('-', '_')
        person = '_person' if name == 'rtmdet_nano' and 'person' in checkpoint.name else ''
        return f'rtmdet_plugin::{name}{person}.py'
    raise ValueError(
        f'config must be given (--config) for {checkpoint}, which has none in it, because there is no {file.name} '
        'next to it, got None'
    )


def read_as_data(text: str, name: str) -> Config:
    """Read the model and the test pipeline in the text of a config, without running it.

    Args:
        text: assignments of numbers, strings, lists, tuples and dicts, as mmengine's `Config.pretty_text`.
        name: name of the config for errors.

    Raises:
        ValueError: if a part that is needed is no plain value, is missing, or the model has a type that isn't in
            `TYPES`.
    """
    advice = f'give it as the argument config (--config), which runs it, if you trust {name}'
    values = {}
    try:
        for node in ast.parse(text).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node]
            if not any(map(_names_a_part, targets)):
                continue
            if not (isinstance(node, ast.Assign) and len(targets) == 1 and isinstance(targets[0], ast.Name)):
                raise ValueError(f'{ast.unparse(node)[:60]!r}')
            values[targets[0].id] = plain_value(node.value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        reason = error if str(error) else type(error).__name__
        raise ValueError(f'{name} must have plain values to be read as data, got {reason}; {advice}') from None
    if '_base_' in values or not isinstance(values.get('model'), dict):
        raise ValueError(f'{name} must have a model and no _base_ to be read as data; {advice}')
    model = without(values['model'], UNUSED)
    if strange := sorted(types_in(model) - TYPES):
        raise ValueError(f'types in {name} must be those of RTMDet to be read as data, got {strange[0]!r}; {advice}')
    return Config({**values, 'model': model})


def _names_a_part(statement: ast.AST) -> bool:
    """Return whether a statement, or the target of an assignment, may set or change a part or add a base."""
    names = {getattr(node, key, None) for node in ast.walk(statement) for key in ('id', 'name', 'asname')}
    return not names.isdisjoint((*PARTS, '_base_', 'read_base'))


def plain_value(node: ast.AST) -> Any:
    """Return the value of an expression of constants, lists, tuples, dicts and `dict(name=value)`.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        if all(keyword.arg is not None for keyword in node.keywords):
            return {keyword.arg: plain_value(keyword.value) for keyword in node.keywords}
    elif isinstance(node, ast.Dict) and (keys := [key for key in node.keys if key is not None]) == node.keys:
        return {ast.literal_eval(key): plain_value(value) for key, value in zip(keys, node.values, strict=True)}
    elif isinstance(node, (ast.List, ast.Tuple)):
        return (list if isinstance(node, ast.List) else tuple)(map(plain_value, node.elts))
    elif isinstance(node, (ast.Constant, ast.UnaryOp)):
        return ast.literal_eval(node)
    raise ValueError(f'{ast.unparse(node)[:60]!r}')


def without(node: Any, keys: tuple[str, ...]) -> Any:
    """Return a copy of nested dicts and lists without some keys of the dicts."""
    if isinstance(node, dict):
        return {key: without(value, keys) for key, value in node.items() if key not in keys}
    return [without(value, keys) for value in node] if isinstance(node, (list, tuple)) else node


def types_in(node: Any) -> set[str]:
    """Return all values of `type` in nested dicts and lists, without mmdet's scope."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    own = {str(node['type']).removeprefix('mmdet.')} if isinstance(node, dict) and 'type' in node else set()
    return own.union(*map(types_in, values))
