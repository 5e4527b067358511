"""Every fault in RELIABILITY.md names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
ROWS = [
    line
    for line in (TESTS / 'RELIABILITY.md').read_text().splitlines()
    if line.startswith('|') and not line.startswith(('| ---', '| What '))
]


def named_tests(row: str) -> list[tuple[str, str]]:
    """Return the tests in a row's last cell as (path, function); `::NAME` has the path of the test before it."""
    tests = []
    for path, function in re.findall(r'`([^`:]*)::(\w+)`', row.split(' | ')[-1]):
        tests.append((path or tests[-1][0], function))
    return tests


def test_every_row_names_tests_that_exist():
    assert ROWS
    for row in ROWS:
        tests = named_tests(row)
        assert tests and row.count(' | ') == 2, row
        for path, function in tests:
            assert f'\ndef {function}(' in (TESTS / path).read_text(), row
