"""The version of this package, and the check of the versions around it."""

import importlib

__version__ = '0.1.0'

# Module, lowest version, highest (exclusive) or None. Modules and not distributions: the onedl forks bring the same
# modules under other distribution names. mmdet itself checks the highest mmcv that it takes.
REQUIRED = (
    ('torch', '2.6.0', None),  # before, a crafted checkpoint could get round `weights_only` (CVE-2025-32434)
    ('mmengine', '0.10.0', '1.0.0'),
    ('mmcv', '2.0.0', '3.0.0'),
    ('mmdet', '3.2.0', '4.0.0'),
)
HOW = (
    'In a checkout of rtmdet_plugin, install the stack with `pip install ".[lite]"` (mmcv-lite, nothing to compile), '
    '`pip install ".[full]"` (compiled mmcv), or the onedl forks; see docs/install.md.'
)


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, `'2.13.0+cpu'` -> `(2, 13, 0)`; a pre-release counts as its release."""
    numbers = []
    for part in version.split('+')[0].split('.')[:3]:
        digits = part[: next((i for i, char in enumerate(part) if not char.isdigit()), len(part))]
        if not digits:
            break
        numbers.append(int(digits))
    return (*numbers, 0, 0, 0)[:3]


def check_stack() -> None:
    """Stop where a part of the stack is missing, too old or too new.

    Raises:
        ImportError: names the part, its version and what is accepted, and says what to install.
    """
    problem = _first_problem()
    if problem:
        raise ImportError(f'rtmdet_plugin: {problem}. {HOW}')


def _first_problem() -> str | None:
    for name, lowest, below in REQUIRED:
        accepted = f'>= {lowest}' + (f', < {below}' if below else '')
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = (error.name or name).partition('.')[0]
            if missing == name:
                return f'{name} is not installed ({accepted} is needed)'
            return f'{name} needs {missing}, which is not installed'
        except AssertionError as error:  # how mmdet refuses an mmcv or mmengine that it can't work with
            return str(error).rstrip('.')
        found = getattr(module, '__version__', 'unknown')
        if release(found) < release(lowest) or (below and release(found) >= release(below)):
            return f'{name} {found} is installed, {accepted} is needed'
    return None
