"""Without RTMDET_DATA and RTMDET_WEIGHTS, only tests of OpenMMLab's weights and of COCO's images are skipped."""

from pathlib import Path

TESTS = Path(__file__).parent
READ_THEM = {'conftest.py', 'test_skips.py', 'projects/test_blood_cells.py'}
SET_THEM = {'test_packaging.py'}


def test_at_most_ten_tests_need_data_or_weights_of_others(need_openmmlab):
    """Count the skips in the collected files; a run of the suite counts all."""
    assert len(need_openmmlab) <= 10, '\n'.join(need_openmmlab)


def test_data_and_weights_come_from_the_fixtures():
    """A test that reads the variables without a fixture could skip and not be counted."""
    variables = ('RTMDET_DATA', 'RTMDET_WEIGHTS')
    found = {path for path in TESTS.rglob('*.py') if any(name in path.read_text() for name in variables)}
    assert {path.relative_to(TESTS).as_posix() for path in found} == READ_THEM | SET_THEM
