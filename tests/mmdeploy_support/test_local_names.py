"""mmdeploy's rewriters find the functions that they replace, on every Python."""

import pytest

pytest.importorskip('mmdeploy', reason='mmdeploy is not installed')

from mmdeploy.core.rewriters import function_rewriter, rewriter_utils

from rtmdet_plugin.mmdeploy_support import register  # noqa: F401  closes the gap


class Detector:
    """Something whose method is replaced."""

    def name(self) -> str:
        return 'original'


def test_a_function_is_found_by_its_path():
    found, owner = rewriter_utils.import_function('mmdet.models.dense_heads.rtmdet_head.RTMDetHead.forward')
    assert found.__qualname__ == 'RTMDetHead.forward' and owner.__name__ == 'RTMDetHead'
    assert rewriter_utils.eval_with_import('mmdet.models.RTMDet').__name__ == 'RTMDet'


def test_a_method_is_replaced(monkeypatch):
    monkeypatch.setitem(vars(function_rewriter), 'Detector', Detector)
    function_rewriter._set_func('Detector.name', lambda self: 'replaced')
    assert Detector().name() == 'replaced'
