"""Register the packages of this plugin in mmdet's registries."""

import importlib

from mmdet import registry as mmdet_registry

PACKAGES = {
    # mmengine looks up the model wrapper in its own registry, which imports nothing. So it is imported with the models.
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
    'VISBACKENDS': ('engine.visualization',),
}


def register_packages() -> None:
    """Let mmdet's registries import our packages together with mmdet's own, at the first lookup of a name.

    If a registry has already imported its packages, ours are imported immediately. Idempotent.
    """
    for name, packages in PACKAGES.items():
        registry = getattr(mmdet_registry, name)
        # These attributes are private, so the list is used only if it exists and isn't empty. It is extended in place
        # because mmengine may be iterating over it now: mmcv.ops, which mmdet.models imports, can import this package.
        locations = getattr(registry, '_locations', None)
        for package in (f'{__package__}.{package}' for package in packages):
            if locations and not registry._imported:
                if package not in locations:
                    locations.append(package)
            else:
                importlib.import_module(package)
