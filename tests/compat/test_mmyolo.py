"""mmyolo's version check passes, and mmcv's version is restored afterwards."""

import sys

import mmcv
import pytest

from rtmdet_plugin.compat.mmyolo import import_mmyolo

CHECK = """
import mmcv
from mmengine.utils import digit_version
seen = mmcv.__version__
assert digit_version(seen) < digit_version('2.1.0'), seen
"""


@pytest.fixture()
def fake_mmyolo(tmp_path, monkeypatch):
    """A package with mmyolo 0.6.0's check; mmyolo itself isn't a dependency."""
    (tmp_path / 'mmyolo').mkdir()
    (tmp_path / 'mmyolo' / '__init__.py').write_text(CHECK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mmyolo', raising=False)
    yield
    sys.modules.pop('mmyolo', None)


@pytest.mark.parametrize(('version', 'seen'), [('2.1.0', '2.0.1'), ('2.3.6', '2.0.1'), ('2.0.0', '2.0.0')])
def test_only_a_newer_mmcv_looks_older(fake_mmyolo, monkeypatch, version, seen):
    monkeypatch.setattr(mmcv, '__version__', version)
    assert import_mmyolo().seen == seen
    assert mmcv.__version__ == version


def test_without_mmyolo(monkeypatch):
    version = mmcv.__version__
    monkeypatch.setitem(sys.modules, 'mmyolo', None)
    with pytest.raises(ModuleNotFoundError):
        import_mmyolo()
    assert mmcv.__version__ == version
