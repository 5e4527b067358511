"""Import hooks that must be installed before `rtmdet_plugin` is imported.

The wheel ships a one-line `rtmdet_plugin.pth` that imports this module when the interpreter starts. The module then
imports only `sys` (microseconds) and installs lazy import hooks:

- After `mmengine.config.config` is imported, `Config.fromfile` and `_base_` accept the name of a shipped config, such
  as `rtmdet_plugin::rtmdet_tiny.py`. mmengine resolves `_base_` before it runs `custom_imports`, and knows only the
  packages of a fixed table.
- After `mmengine.infer.infer` is imported, `DetInferencer` accepts such a name as well.
- After `mim.cli` is imported, `mim train` and `mim test` accept such a name, and find mmdet if the onedl fork is
  installed. On Ctrl-C and SIGTERM they let the program end by itself, and exit with its exit code. If a run is refused,
  the reason is the last line of the output.
- While `mmyolo` is imported, mmcv reports a version that mmyolo accepts. An installed mmrotate that refuses this stack
  counts as not installed for mmyolo.
- If `mmcv._ext` is imported and no compiled mmcv is installed (mmcv-lite), the stand-in of
  `rtmdet_plugin.compat.mmcv_ext` is loaded, so `from mmdet.apis import DetInferencer` works without importing
  `rtmdet_plugin` first.

`import rtmdet_plugin` calls `install()` as well, because no `.pth` file runs if PYTHONPATH leads to the package.
Set `RTMDET_PLUGIN_NO_STARTUP=1` to install nothing when the interpreter starts.
"""

import sys

CONFIG_MODULE = 'mmengine.config.config'
INFER_MODULE = 'mmengine.infer.infer'
MIM_MODULE = 'mim.cli'
MMYOLO_MODULE = 'mmyolo'
MMROTATE_MODULE = 'mmrotate'
EXT_MODULE = 'mmcv._ext'
SCOPE = 'rtmdet_plugin'
MMYOLO_REFUSES_MMCV = (2, 1)
MMYOLO_ACCEPTS_MMCV = '2.0.1'
REFUSAL_FILE = 'RTMDET_PLUGIN_REFUSAL_FILE'
"""Environment variable: file to which a run that `mim` started writes why it was refused."""


def config_path(source: str) -> str:
    """Return the path of a config: a file, or a config that an installed package ships.

    Args:
        source: a path, or `package::name` as in mmengine's `_base_`: `rtmdet_plugin::rtmdet_s.py`,
            `rtmdet_plugin::deploy/sdk.py`, `mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py`.

    Raises:
        FileNotFoundError: if there is no such file, package or name; the message lists the nearest names.
    """
    import importlib.util
    from difflib import SequenceMatcher
    from pathlib import Path

    if Path(source).is_file():
        return source
    package, separator, name = source.partition('::')
    if not separator:
        raise FileNotFoundError(
            f'{source}: no such config; give a file, or the name of a shipped config, such as {SCOPE}::rtmdet_s.py'
        )
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    root = Path(spec.origin).parent / '.mim' / 'configs' if spec and spec.origin else None
    if root is None or not root.is_dir():
        raise FileNotFoundError(
            f'{source}: no package {package!r} with configs is installed; use {SCOPE}::NAME or mmdet::NAME'
        )
    known = [path.relative_to(root).as_posix() for path in root.rglob('*.py')]
    if name not in known:
        nearest = sorted(known, key=lambda other: SequenceMatcher(None, name, other).ratio(), reverse=True)[:5]
        raise FileNotFoundError(
            f'{source}: not one of the {len(known)} configs of {package}; the nearest: {", ".join(nearest)}'
        )
    return str(root / name)


def resolved(source):
    """Apply `config_path` to a name such as `rtmdet_plugin::rtmdet_s.py`; return anything else unchanged."""
    return config_path(source) if isinstance(source, str) and '::' in source else source


def allow_config_names(module) -> None:
    """Let the `Config` class of `mmengine.config.config` resolve `rtmdet_plugin::name.py`. Idempotent.

    The scope that is returned with the path of a base is None. With a scope mmengine would write
    `_scope_='rtmdet_plugin'` into every dictionary of the base, and no registry has that scope. mmengine resolves the
    bases of other packages itself.
    """
    from functools import wraps

    base_path, fromfile = module.Config._get_cfg_path, module.Config.fromfile
    if getattr(base_path, 'knows_rtmdet_plugin', False):
        return

    def _get_cfg_path(cfg_path, filename):
        if cfg_path.startswith(f'{SCOPE}::'):
            return config_path(cfg_path), None
        return base_path(cfg_path, filename)

    @wraps(fromfile)
    def named_fromfile(filename, *args, **kwargs):
        return fromfile(resolved(filename), *args, **kwargs)

    _get_cfg_path.knows_rtmdet_plugin = True
    module.Config._get_cfg_path = staticmethod(_get_cfg_path)
    module.Config.fromfile = staticmethod(named_fromfile)


def allow_inferencer_names(module) -> None:
    """Let the inferencers of `mmengine.infer.infer` accept a config's name. Idempotent."""
    from functools import wraps

    init = module.BaseInferencer.__init__
    if getattr(init, 'knows_rtmdet_plugin', False):
        return

    @wraps(init)
    def __init__(self, model=None, *args, **kwargs):
        init(self, resolved(model), *args, **kwargs)

    # The stub of `wraps` hides that this is a function.
    __init__.knows_rtmdet_plugin = True  # pyright: ignore[reportAttributeAccessIssue]
    module.BaseInferencer.__init__ = __init__


def adapt_mim(module) -> None:
    """Let `mim train` and `mim test`, of `mim.cli`, wait for their program, accept config names, and find forks.

    Idempotent. mim starts the program with `subprocess.check_call`, which kills it a quarter of a second after Ctrl-C,
    doesn't forward SIGTERM to it, turns every exit code into 1, and adds a traceback.
    """
    import subprocess
    from types import SimpleNamespace

    original = module.MIM.get_command
    if getattr(original, 'waits', False):
        return

    def get_command(self, ctx, name):
        command = original(self, ctx, name)
        if name in ('train', 'test'):
            # mim executes the command's file again on each call, in a namespace that can't be imported.
            waiting = SimpleNamespace(**{**vars(subprocess), 'check_call': call_and_wait})
            command.callback.__globals__['subprocess'] = waiting
            for parameter in command.params:
                if parameter.name == 'config':
                    parameter.callback = _resolve_argument
                elif parameter.name == 'package':
                    parameter.callback = _resolve_package
        return command

    get_command.waits = True
    module.MIM.get_command = get_command


def _resolve_argument(ctx, parameter, value):
    """Resolve a config's name on the command line; a click callback."""
    import click

    try:
        return resolved(value)
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from None


def _resolve_package(ctx, parameter, value):
    """Return the name of the distribution that provides a package, by which mim looks for it; a click callback.

    Forks have other names: mim would offer to install mmdet, over the files of onedl-mmdetection.
    """
    from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

    name = value.lower()
    try:
        distribution(name)
    except PackageNotFoundError:
        return packages_distributions().get(name, [name])[0]
    return name


def call_and_wait(command, env=None, **kwargs) -> int:
    """Run a program that handles signals itself, in place of `subprocess.check_call`.

    If the program fails, this process exits: with the program's exit code after a signal, otherwise with 1. In the
    second case the last line on stderr says why the program was refused, or how it ended.
    """
    import os
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        refusal = Path(folder, 'refusal')
        code = _wait_for(command, env={**(os.environ if env is None else env), REFUSAL_FILE: str(refusal)}, **kwargs)
        reason = refusal.read_text(errors='replace') if refusal.is_file() else ''
    if not code:
        return code
    for number in (2, 15):  # SIGINT, SIGTERM
        if code in (128 + number, -number):  # by its own handler, or killed by the signal
            sys.exit(128 + number)
    ending = f'signal {-code}' if code < 0 else f'exit code {code}'
    sys.stdout.flush()
    print(reason or f'mim: the program ended with {ending}', file=sys.stderr)
    sys.exit(1)


def _wait_for(command, **kwargs) -> int:
    """Run a program, forward SIGTERM to it, and return its exit code."""
    import signal
    import subprocess

    with subprocess.Popen(command, **kwargs) as program:

        def forward(number, frame):
            # The terminal sends Ctrl-C to all processes of the foreground group, so the program has received it.
            if number == signal.SIGTERM:
                program.send_signal(number)

        before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return program.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def import_with_older_mmcv(load, module) -> None:
    """Load `mmyolo`, which asserts mmcv < 2.1 in its `__init__` and works with 2.1 once this check has passed.

    mmcv reports an older version only while this one file runs.
    """
    import mmcv
    import mmdet  # noqa: F401  before that, because it checks mmcv's version as well

    version = mmcv.__version__
    major, minor = (int(number) for number in version.split('.')[:2])
    if (major, minor) >= MMYOLO_REFUSES_MMCV:
        mmcv.__version__ = MMYOLO_ACCEPTS_MMCV
    try:
        load(module)
    finally:
        mmcv.__version__ = version


def import_or_report_missing(load, module) -> None:
    """Load `mmrotate`, whose `__init__` asserts versions that this stack doesn't have.

    mmyolo imports mmrotate if it is installed, and handles only an ImportError.

    Raises:
        ImportError: instead of mmrotate's AssertionError, if mmyolo has been imported.
    """
    try:
        load(module)
    except AssertionError as error:
        if MMYOLO_MODULE not in sys.modules:
            raise
        raise ImportError(f'mmrotate must accept the installed versions, got an error: {error}') from error


class _HookedLoader:
    """Wrap the import loader of a module in `AFTER_LOAD` or `AROUND_LOAD`."""

    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        # Restore the original loader, because inspect and pickle look at it.
        module.__loader__ = module.__spec__.loader = self.loader
        name, load = module.__name__, self.loader.exec_module
        if name in AROUND_LOAD:
            AROUND_LOAD[name](load, module)
        else:
            load(module)
            AFTER_LOAD[name](module)


AFTER_LOAD = {
    CONFIG_MODULE: allow_config_names,
    INFER_MODULE: allow_inferencer_names,
    MIM_MODULE: adapt_mim,
}
"""Module name: function to call with the module once it is loaded."""
AROUND_LOAD = {
    MMYOLO_MODULE: import_with_older_mmcv,
    MMROTATE_MODULE: import_or_report_missing,
}
"""Module name: function that loads it, called with the function that would load it, and the module."""


class HookedFinder:
    """Import finder that wraps the loaders of the modules in `AFTER_LOAD` and `AROUND_LOAD`."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        """Return the spec of another finder with its loader wrapped, or None for other modules."""
        if fullname not in AFTER_LOAD and fullname not in AROUND_LOAD:
            return None
        for finder in sys.meta_path:
            find = None if finder is cls else getattr(finder, 'find_spec', None)
            spec = find(fullname, path, target) if find else None
            if spec is not None and spec.loader is not None:
                spec.loader = _HookedLoader(spec.loader)
                return spec
        return None


class ExtFinder:
    """Import finder and loader of the stand-in for `mmcv._ext`; it comes last, so a compiled module is preferred."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        """Return a spec for `mmcv._ext` if this package and mmdet are installed, otherwise None."""
        if fullname != EXT_MODULE:
            return None
        import importlib.util

        if any(importlib.util.find_spec(name) is None for name in (SCOPE, 'mmdet')):
            return None
        origin = f'stand-in of {SCOPE}'
        # The stub asks for the deprecated `load_module`; importlib needs only `exec_module`.
        return importlib.util.spec_from_loader(EXT_MODULE, cls, origin=origin)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def create_module(spec):
        """Use Python's default module."""
        return None

    @staticmethod
    def exec_module(module):
        """Fill the module with the stand-in's ops."""
        from rtmdet_plugin.compat.mmcv_ext import fill

        fill(module)


def install() -> None:
    """Install the hooks. Idempotent."""
    for name, action in AFTER_LOAD.items():
        module = sys.modules.get(name)
        # A module may be half loaded, if mmengine's own import led to this one. Then the finder calls the action later.
        if module is not None and not getattr(module.__spec__, '_initializing', False):
            action(module)
    if HookedFinder not in sys.meta_path:
        sys.meta_path.insert(0, HookedFinder)
    if ExtFinder not in sys.meta_path:
        sys.meta_path.append(ExtFinder)


def start() -> None:
    """Install the hooks unless the user has disabled them; called by `rtmdet_plugin.pth`."""
    import os

    if os.environ.get('RTMDET_PLUGIN_NO_STARTUP', '0') in ('', '0'):
        install()
