"""Imports run in one direction, as in the diagram of CONTRIBUTING.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    'rtmdet_runtime': [],
    'compat': [],
    'errors': ['compat'],
    'stride_masks': [],
    'memory_file': [],
    'kept_memory': [],
    'sample_batch': ['stride_masks', 'memory_file'],
    'checkpoints': ['errors'],
    'config': ['errors'],
    'transforms': ['errors', 'kept_memory', 'stride_masks'],
    'assigners': [],
    'mmyolo_support': [],
    'models': ['assigners', 'checkpoints', 'mmyolo_support', 'sample_batch', 'stride_masks'],
    'datasets': ['transforms', 'sample_batch'],
    'engine': ['models', 'datasets', 'checkpoints', 'config'],
    'training': ['engine', 'config', 'report'],
    'doctor': ['training'],
    'export': ['checkpoints', 'config', 'models'],
    'quantization': ['export'],
    'tensorrt': ['export'],
    'mmdeploy_support': ['export'],
    'evaluation': [],
    'inference': ['export', 'datasets'],
    'report': ['inference', 'evaluation'],
    'rtmdet_cli': ['doctor', 'quantization', 'tensorrt', 'mmdeploy_support'],
}
"""Package: those that it may import, with all that they may import; `rtmdet_runtime` may be imported by all."""
ANYWHERE = {'version', 'rtmdet_plugin_startup', 'rtmdet_runtime'}


def allowed(package: str) -> set[str]:
    """Packages that `package` may import, directly or through others."""
    return set(MAY_IMPORT[package]).union(*(allowed(other) for other in MAY_IMPORT[package]))


def package_of(module: str) -> str:
    """Return `export` for `rtmdet_plugin.export.forms`; packages outside `rtmdet_plugin` keep their name."""
    first, _, rest = module.partition('.')
    return rest.partition('.')[0] or first if first == 'rtmdet_plugin' else first


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, in functions too."""
    folder = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            module = '.'.join([*base, *([node.module] if node.module else [])])
            yield from (module,) if node.module else (f'{module}.{alias.name}' for alias in node.names)


def files_of(package: str) -> list[Path]:
    folder = ROOT / package if package.startswith('rtmdet_') else ROOT / 'rtmdet_plugin' / package
    return list(folder.rglob('*.py')) if folder.is_dir() else [folder.with_suffix('.py')]


def test_every_package_has_its_place():
    found = {
        path.stem for path in (ROOT / 'rtmdet_plugin').iterdir() if path.is_dir() and (path / '__init__.py').is_file()
    }
    others = {'errors', 'kept_memory', 'memory_file', 'sample_batch', 'stride_masks', 'rtmdet_cli', 'rtmdet_runtime'}
    assert found | others == set(MAY_IMPORT)


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_imports_run_one_way(package):
    ours = {'rtmdet_plugin', 'rtmdet_cli', 'rtmdet_runtime', 'rtmdet_plugin_startup'}
    accepted = allowed(package) | {package} | (ANYWHERE if package != 'rtmdet_runtime' else set())
    wrong = [
        f'{path.relative_to(ROOT)}: {module}'
        for path in files_of(package)
        for module in imported_modules(path)
        if module.partition('.')[0] in ours and package_of(module) not in accepted
    ]
    assert wrong == []
