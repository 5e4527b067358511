"""Steps are found by name."""

import pytest

from rtmdet_plugin import find_step
from rtmdet_plugin.errors import RefusedError


def test_find_step_returns_the_step_itself():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmdet.Resize', scale=(64, 64))]
    assert find_step(pipeline, 'Resize') is pipeline[1]


@pytest.mark.parametrize('name', ['Pad', 'Resize'])
def test_no_step_and_several_are_refused_with_the_types_that_are_there(name):
    with pytest.raises(RefusedError, match=rf"one step of \['Resize', 'Resize'\], got '{name}'"):
        find_step([dict(type='Resize'), dict(type='Resize')], name)
