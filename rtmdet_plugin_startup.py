"""What has to be in place before anybody imports `rtmdet_plugin`.

The wheel ships a one-line `rtmdet_plugin.pth` that imports this module when the interpreter starts. It imports
nothing but `sys` there (microseconds) and puts lazy import hooks in place:

- after `mmengine.config.config` was imported, a config may begin with `_base_ = 'rtmdet_plugin::rtmdet_tiny.py'`.
  mmengine resolves `_base_` before it runs `custom_imports`, and only knows the packages of a fixed table;
- after `mim.cli` was imported, `mim train` lets the training end by itself on Ctrl-C and SIGTERM, and ends
  with its exit code;
- where `mmcv._ext` is asked for and no compiled mmcv is installed (mmcv-lite), the stand-in of
  `rtmdet_plugin.compat.mmcv_ext` answers, so `from mmdet.apis import DetInferencer` works without importing us first.

`import rtmdet_plugin` calls `install()` as well, for use through PYTHONPATH, where no `.pth` runs.
Set `RTMDET_PLUGIN_NO_STARTUP=1` to keep the interpreter's start free of it.
"""

import sys

CONFIG_MODULE = 'mmengine.config.config'
MIM_MODULE = 'mim.cli'
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


def allow_graceful_stop(module) -> None:
    """Let `mim train`, of `mim.cli`, wait for a training that is asked to stop; twice is once.

    mim starts it with `subprocess.check_call`, which kills it a quarter of a second after Ctrl-C, leaves it alone with
    SIGTERM, and turns every exit code into 1.
    """
    import subprocess
    from types import SimpleNamespace

    original = module.MIM.get_command
    if getattr(original, 'waits', False):
        return

    def get_command(self, ctx, name):
        command = original(self, ctx, name)
        if name == 'train':
            # mim executes the verb's file anew each time, in a namespace that no import reaches.
            waiting = SimpleNamespace(**{**vars(subprocess), 'check_call': _call_and_wait})
            command.callback.__globals__['subprocess'] = waiting
        return command

    get_command.waits = True
    module.MIM.get_command = get_command


def _call_and_wait(command, **kwargs) -> int:
    """`subprocess.check_call` for a program that handles signals itself; ends the process with its exit code."""
    import signal
    import subprocess

    with subprocess.Popen(command, **kwargs) as program:

        def pass_on(number, frame):
            # Ctrl-C goes to the whole foreground group, so the program has got it already.
            if number == signal.SIGTERM:
                program.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = program.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    for number in (signal.SIGINT, signal.SIGTERM):
        if code in (128 + number, -number):  # ended by itself, or at once
            sys.exit(128 + number)
    if code:
        raise subprocess.CalledProcessError(code, command)
    return code


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


AFTER_LOAD = {CONFIG_MODULE: allow_packaged_base, MIM_MODULE: allow_graceful_stop}
"""What to do with a module once it is loaded."""


class AfterLoadFinder:
    """Wraps the loaders of the modules in `AFTER_LOAD`."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname not in AFTER_LOAD:
            return None
        for finder in sys.meta_path:
            find = None if finder is cls else getattr(finder, 'find_spec', None)
            spec = find(fullname, path, target) if find else None
            if spec is not None and spec.loader is not None:
                spec.loader = _AfterLoad(spec.loader, AFTER_LOAD[fullname])
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
    for name, action in AFTER_LOAD.items():
        module = sys.modules.get(name)
        # Half loaded (somebody imports us while mmengine loads) it isn't ready; the finder then did its part.
        if module is not None and not getattr(module.__spec__, '_initializing', False):
            action(module)
    if AfterLoadFinder not in sys.meta_path:
        sys.meta_path.insert(0, AfterLoadFinder)
    if ExtFinder not in sys.meta_path:
        sys.meta_path.append(ExtFinder)


def start() -> None:
    """What `rtmdet_plugin.pth` calls."""
    import os

    if os.environ.get('RTMDET_PLUGIN_NO_STARTUP', '0') in ('', '0'):
        install()
