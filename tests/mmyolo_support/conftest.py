"""mmyolo is a reference in tests only; its package has tests without it."""

import pytest


@pytest.fixture(scope='session')
def mmyolo_model():
    """The module `mmyolo_model`, with mmyolo's own RTMDet-tiny."""
    pytest.importorskip('mmyolo', reason='mmyolo is not installed: pip install --no-deps -r mmyolo-requirements.txt')
    import mmyolo_model

    return mmyolo_model
