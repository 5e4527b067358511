"""mmyolo is imported on this stack: its check of mmcv's version passes, and a failing mmrotate counts as missing."""

import importlib
import sys

import mmcv
import pytest

import rtmdet_plugin_startup as startup

CHECK = """
import mmcv
from mmengine.utils import digit_version
seen = mmcv.__version__
assert digit_version(seen) < digit_version('2.1.0'), seen
"""
MODELS = """
try:
    from mmrotate.structures.bbox import RotatedBoxes
except ImportError as error:
    RotatedBoxes = str(error)
"""
REFUSAL = "assert False, 'MMDetection==3.3.0 is used but incompatible'"


@pytest.fixture()
def fakes(tmp_path, monkeypatch):
    """Packages with mmyolo 0.6.0's check and its import of mmrotate, and with mmrotate 1.0.0rc1's check."""
    for path, content in {'mmyolo': CHECK, 'mmyolo/models': MODELS, 'mmrotate': REFUSAL}.items():
        (tmp_path / path).mkdir()
        (tmp_path / path / '__init__.py').write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    names = [name for name in sys.modules if name.partition('.')[0] in ('mmyolo', 'mmrotate')]
    kept = {name: sys.modules.pop(name) for name in names}
    yield
    for name in ('mmyolo', 'mmyolo.models', 'mmrotate'):
        sys.modules.pop(name, None)
    sys.modules.update(kept)


@pytest.mark.parametrize(('version', 'seen'), [('2.1.0', '2.0.1'), ('2.3.6', '2.0.1'), ('2.0.0', '2.0.0')])
def test_only_a_newer_mmcv_looks_older(fakes, monkeypatch, version, seen):
    monkeypatch.setattr(mmcv, '__version__', version)
    assert importlib.import_module('mmyolo').seen == seen
    assert mmcv.__version__ == version


def test_mmcv_has_its_version_again_if_the_import_fails(fakes, monkeypatch, tmp_path):
    version = mmcv.__version__
    (tmp_path / 'mmyolo' / '__init__.py').write_text('raise RuntimeError')
    with pytest.raises(RuntimeError):
        importlib.import_module('mmyolo')
    assert mmcv.__version__ == version


@pytest.mark.parametrize(('switch', 'accepted'), [('', True), ('0', True), ('1', False)])
def test_the_switch_disables_it(fakes, monkeypatch, switch, accepted):
    finders = (startup.HookedFinder, startup.ExtFinder)
    monkeypatch.setattr(sys, 'meta_path', [finder for finder in sys.meta_path if finder not in finders])
    monkeypatch.setenv('RTMDET_PLUGIN_NO_STARTUP', switch)
    startup.start()
    if accepted:
        importlib.import_module('mmyolo')
    else:
        with pytest.raises(AssertionError, match=mmcv.__version__):
            importlib.import_module('mmyolo')


def test_an_mmrotate_that_refuses_this_stack_counts_as_missing(fakes):
    found = importlib.import_module('mmyolo.models').RotatedBoxes
    assert 'got an error: MMDetection==3.3.0' in found


def test_without_mmyolo_the_error_of_mmrotate_stays(fakes):
    with pytest.raises(AssertionError, match='MMDetection==3.3.0'):
        importlib.import_module('mmrotate')
