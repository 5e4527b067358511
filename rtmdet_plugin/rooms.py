"""Which folder of this package registers in which of mmdet's registries."""

import importlib

from mmdet import registry as mmdet_registry

ROOMS = {
    'MODELS': ('models', 'hooks'),
    'TASK_UTILS': ('assigners',),
    'TRANSFORMS': ('transforms',),
    'DATASETS': ('datasets',),
    'METRICS': ('datasets',),
    'DATA_SAMPLERS': ('datasets',),
    'HOOKS': ('hooks',),
    'LOOPS': ('hooks',),
    'MODEL_WRAPPERS': ('hooks',),
    'OPTIM_WRAPPERS': ('hooks',),
    'OPTIM_WRAPPER_CONSTRUCTORS': ('hooks',),
    'PARAM_SCHEDULERS': ('hooks',),
}


def register_rooms() -> None:
    """Have mmdet's registries import our folders when they import mmdet's own: at the first lookup of a name.

    A registry that has done its imports already gets ours at once. Calling this again changes nothing.
    """
    for name, rooms in ROOMS.items():
        registry = getattr(mmdet_registry, name)
        # Private, so an absent or empty list means: don't count on it. The list is extended in place because mmengine
        # may be walking through it right now (mmcv.ops, imported by mmdet.models, can be what imports us).
        locations = getattr(registry, '_locations', None)
        for room in (f'{__package__}.{room}' for room in rooms):
            if locations and not registry._imported:
                if room not in locations:
                    locations.append(room)
            else:
                importlib.import_module(room)
