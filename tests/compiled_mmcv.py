"""Whether mmcv has its compiled operators here, and marks for tests of either case."""

import importlib.util

import pytest


def compiled() -> bool:
    spec = importlib.util.find_spec('mmcv._ext')
    return spec is not None and 'stand-in' not in (spec.origin or '')


lite_only = pytest.mark.skipif(compiled(), reason='compiled mmcv is installed, so the stand-in is not used')
compiled_only = pytest.mark.skipif(not compiled(), reason='mmcv is installed without compiled operators')
