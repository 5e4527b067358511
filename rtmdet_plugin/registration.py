"""Register the packages of this plugin in mmdet's registries."""

import importlib

from mmdet import registry as mmdet_registry

PACKAGES = {
    # The wrapper of the model is looked up in mmengine's own registry, which imports nothing: it comes with the models.
    'MODELS': ('models', 'engine.runner'),
    'TASK_UTILS': ('assigners',),
    'TRANSFORMS': ('transforms',),
    'DATASETS': ('datasets',),
    'METRICS': ('datasets',),
    'DATA_SAMPLERS': ('datasets',),
    'HOOKS': ('engine.hooks',),
    'LOOPS': ('engine.runner',),
    'MODEL_WRAPPERS': ('engine.runner',),
    'OPTIM_WRAPPERS': ('engine.optimizers',),
    'OPTIM_WRAPPER_CONSTRUCTORS': ('engine.optimizers',),
    'PARAM_SCHEDULERS': ('engine.schedulers',),
}


def register_packages() -> None:
    """Let mmdet's registries import our packages when they import mmdet's own: at the first lookup of a name.

    A registry that has done its imports already gets ours at once. Calling this again changes nothing.
    """
    for name, packages in PACKAGES.items():
        registry = getattr(mmdet_registry, name)
        # Private, so an absent or empty list means: don't count on it. The list is extended in place because mmengine
        # may be walking through it right now (mmcv.ops, imported by mmdet.models, can be what imports us).
        locations = getattr(registry, '_locations', None)
        for package in (f'{__package__}.{package}' for package in packages):
            if locations and not registry._imported:
                if package not in locations:
                    locations.append(package)
            else:
                importlib.import_module(package)
