"""What has to be in place before anybody imports `rtmdet_plugin`.

The wheel ships a one-line `rtmdet_plugin.pth` that imports this module when the interpreter starts. It imports
nothing but `sys` there (microseconds) and puts two lazy import hooks in place:

- after `mmengine.config.config` was imported, a config may begin with `_base_ = 'rtmdet_plugin::rtmdet_tiny.py'`.
  mmengine resolves `_base_` before it runs `custom_imports`, and only knows the packages of a fixed table;
- where `mmcv._ext` is asked for and no compiled mmcv is installed (mmcv-lite), the stand-in of
  `rtmdet_plugin.compat.mmcv_ext` answers, so `from mmdet.apis import DetInferencer` works without importing us first.

`import rtmdet_plugin` calls `install()` as well, for use through PYTHONPATH, where no `.pth` runs.
Set `RTMDET_PLUGIN_NO_STARTUP=1` to keep the interpreter's start free of it.
"""

import sys

CONFIG_MODULE = 'mmengine.config.config'
EXT_MODULE = 'mmcv._ext'
SCOPE = 'rtmdet_plugin'


def config_path(name: str) -> str:
    """Path of the packaged config `name`, relative to `configs/`, such as `rtmdet_tiny.py`.

    Raises:
        FileNotFoundError: where there is no such config; it lists those that there are.
    """
    import importlib.util
    from pathlib import Path

    spec = importlib.util.find_spec(SCOPE)
    if spec is None or not spec.origin:
        raise FileNotFoundError(f"'{SCOPE}::{name}' needs the package {SCOPE}, which is not installed")
    root = Path(spec.origin).parent / '.mim' / 'configs'
    if not (root / name).is_file():
        known = ', '.join(sorted(path.relative_to(root).as_posix() for path in root.rglob('*.py')))
        raise FileNotFoundError(f"'{SCOPE}::{name}' is not one of the packaged configs: {known}")
    return str(root / name)


def allow_packaged_base(module) -> None:
    """Let the `Config` class of `mmengine.config.config` resolve `rtmdet_plugin::name.py`; twice is once.

    The scope that goes with the path is None: with a scope mmengine would write `_scope_='rtmdet_plugin'` into
    every dictionary of the base, and no registry has that scope.
    """
    original = module.Config._get_cfg_path
    if getattr(original, 'knows_rtmdet_plugin', False):
        return

    def _get_cfg_path(cfg_path, filename):
        scope, separator, name = cfg_path.partition('::')
        if separator and scope == SCOPE:
            return config_path(name), None
        return original(cfg_path, filename)

    _get_cfg_path.knows_rtmdet_plugin = True
    module.Config._get_cfg_path = staticmethod(_get_cfg_path)


class _AfterLoad:
    """A loader that does what `loader` does, and then calls `action(module)`."""

    def __init__(self, loader, action):
        self.loader, self.action = loader, action

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        # The module is handed over as if we had never been there: inspect and pickle look at its loader.
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.action(module)


class ConfigFinder:
    """Wraps the loader of `mmengine.config.config`, once."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname != CONFIG_MODULE:
            return None
        for finder in sys.meta_path:
            find = None if finder is cls else getattr(finder, 'find_spec', None)
            spec = find(fullname, path, target) if find else None
            if spec is not None and spec.loader is not None:
                spec.loader = _AfterLoad(spec.loader, allow_packaged_base)
                return spec
        return None


class ExtFinder:
    """Answers for `mmcv._ext` where nobody else did: it is the last one that gets asked."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname != EXT_MODULE:
            return None
        import importlib.util

        if any(importlib.util.find_spec(name) is None for name in (SCOPE, 'mmdet')):
            return None
        return importlib.util.spec_from_loader(EXT_MODULE, cls, origin=f'stand-in of {SCOPE}')

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        from rtmdet_plugin.compat.mmcv_ext import fill

        fill(module)


def install() -> None:
    """Put the hooks in place; twice is once."""
    if CONFIG_MODULE in sys.modules:
        # Half loaded (somebody imports us while mmengine loads) it has no Config yet; the finder then did its part.
        if hasattr(sys.modules[CONFIG_MODULE], 'Config'):
            allow_packaged_base(sys.modules[CONFIG_MODULE])
    elif ConfigFinder not in sys.meta_path:
        sys.meta_path.insert(0, ConfigFinder)
    if ExtFinder not in sys.meta_path:
        sys.meta_path.append(ExtFinder)


def start() -> None:
    """What `rtmdet_plugin.pth` calls."""
    import os

    if os.environ.get('RTMDET_PLUGIN_NO_STARTUP', '0') in ('', '0'):
        install()
