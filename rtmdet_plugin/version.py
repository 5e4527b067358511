"""The version of this package, and the check of its dependencies' versions."""

import importlib

__version__ = '0.1.0'

# Module, minimum version, upper bound (exclusive) or None. Modules instead of distributions, because the onedl forks
# provide the same modules under other distribution names. mmdet itself checks the upper bound of mmcv.
REQUIRED = (
    ('torch', '2.6.0', None),  # in older versions a crafted checkpoint can bypass `weights_only` (CVE-2025-32434)
    ('mmengine', '0.10.0', '1.0.0'),
    ('mmcv', '2.0.0', '3.0.0'),
    ('mmdet', '3.2.0', '4.0.0'),
)
INSTALL_ADVICE = (
    'In a checkout of rtmdet_plugin, install the stack with `pip install ".[lite]"` (mmcv-lite, nothing to compile), '
    '`pip install ".[full]"` (compiled mmcv), or the onedl forks; see docs/install.md.'
)


def release(version: str) -> tuple[int, ...]:
    """Parse the leading numbers of a version, `'2.13.0+cpu'` -> `(2, 13, 0)`; a pre-release counts as its release."""
    numbers = []
    for part in version.split('+')[0].split('.')[:3]:
        digits = part[: next((i for i, char in enumerate(part) if not char.isdigit()), len(part))]
        if not digits:
            break
        numbers.append(int(digits))
    return (*numbers, 0, 0, 0)[:3]


def check_stack() -> None:
    """Check that no dependency is missing, too old or too new.

    Raises:
        ImportError: if one is; the message names it, its version and the accepted versions, and says what to install.
    """
    problem = _first_problem()
    if problem:
        raise ImportError(f'rtmdet_plugin: {problem}. {INSTALL_ADVICE}')


def _first_problem() -> str | None:
    for name, lowest, below in REQUIRED:
        accepted = f'>= {lowest}' + (f', < {below}' if below else '')
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = (error.name or name).partition('.')[0]
            if missing == name:
                return f'{name} must be {accepted}, but is not installed'
            return f'{name} needs {missing}, which is not installed'
        except AssertionError as error:  # raised by mmdet for an incompatible mmcv or mmengine
            return str(error).rstrip('.')
        found = getattr(module, '__version__', 'unknown')
        if release(found) < release(lowest) or (below and release(found) >= release(below)):
            return f'{name} must be {accepted}, got {found}'
    return None
