"""Give a config in mmengine's new style, with `read_base()`, the names of its types instead of the classes.

In such a config types are imported: `type=CSPNeXt`. mmengine keeps them as `LazyObject`s, which turn into the class
when they are read, and writes them as `type='mmdet.models.backbones.cspnext.CSPNeXt'` when it dumps the config.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from types import FunctionType

from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry

from ..errors import RefusedError

_PACKAGES = ('mmdet', 'mmcv', 'mmengine', 'torch')
"""Packages whose registered types mmdet finds by name; others need an import, which only their class ensures."""
_DUMPED = re.compile(rf'({"|".join(_PACKAGES)})(\.\w+){{2,}}')
"""Type in a dump: module and name. `mmdet.CSPNeXt` is a name within a scope."""


def imports_types(config: Config | ConfigDict) -> bool:
    """Return whether a config imports its types, as in mmengine's new style, or is a dump of such a config."""
    return next(_imported(config), None) is not None


def can_be_base(config: Config | ConfigDict) -> bool:
    """Return whether another config can have this one in `_base_`: no type is imported, except in a dump."""
    return all(isinstance(kind, str) for _, _, kind in _imported(config))


def name_types(config: Config | ConfigDict) -> None:
    """Replace the imported types of mmdet, mmcv, mmengine and PyTorch by their registered names, in place.

    Types that aren't registered, and those of other packages, stay. `default_scope`, which is None in mmdet's configs
    of this style, becomes 'mmdet', so that the names are found.

    Raises:
        RefusedError: if a type that stays has the name of one that mmdet finds. The config is unchanged then.
    """
    names = _registered_names()
    built = [(parent, key, _object(kind)) for parent, key, kind in _imported(config)]
    # Others are constants, which may not be hashable.
    places = [(parent, key, kind) for parent, key, kind in built if isinstance(kind, (type, FunctionType))]
    for _, key, kind in places:
        if kind not in names and kind.__name__ in names.values():
            raise RefusedError(
                f"{key} must be the {kind.__name__} that mmdet finds by this name, got {kind.__module__}'s; give yours "
                "another name, or import mmdet's"
            )
    for parent, key, kind in places:
        if kind in names:
            parent[key] = names[kind]
    config['default_scope'] = 'mmdet'


def _object(kind: LazyObject | LazyAttr | str) -> object:
    """Import what `_imported` yields."""
    if not isinstance(kind, str):
        return kind.build()
    # mmengine's `get_object_from_string` takes the function `mmdet.models.losses.iou_loss` for the module of this name.
    module, _, name = kind.rpartition('.')
    return getattr(import_module(module), name)


def _is_imported(key: object, value: object) -> bool:
    if isinstance(value, str):
        return str(key).endswith('type') and _DUMPED.fullmatch(value) is not None
    return isinstance(value, (LazyAttr, LazyObject))


def _imported(node: Config | dict | list | tuple) -> Iterator[tuple[dict, str, LazyObject | LazyAttr | str]]:
    """Yield the places of imported objects within a config's dictionaries: dictionary, key, object or its dumped name.

    Variables of the file itself are skipped, because they include everything that it imports.
    """
    for value in node if isinstance(node, (list, tuple)) else node.values():
        if isinstance(value, dict):
            # `dict.items` returns the objects themselves; those of mmengine's dictionaries would turn into classes.
            yield from ((value, key, x) for key, x in dict.items(value) if _is_imported(key, x))
        if isinstance(value, (dict, list, tuple)):
            yield from _imported(value)


def _registered_names() -> dict[object, str]:
    """Return the registered name of each type that mmdet finds by this name."""
    from mmcv.ops import nms
    from mmdet import registry as registries
    from torch.nn import SyncBatchNorm

    # mmcv looks up `nms` among its own functions, and registers a subclass as SyncBN.
    names: dict[object, str] = {nms: 'nms', SyncBatchNorm: 'SyncBN'}
    for registry in vars(registries).values():
        if isinstance(registry, Registry) and registry.scope == 'mmdet':  # it imports those of mmengine as well
            registry.import_from_location()
            own = registry.module_dict
            above = registry.parent.module_dict if registry.parent else {}
            for name, kind in {**above, **own}.items():  # a name of mmdet's hides one of mmengine's
                if kind.__module__.partition('.')[0] in _PACKAGES:
                    names.setdefault(kind, name)
    return names
