"""docs/reliability.md: every row's test exists, with the kind that the row names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = (ROOT / 'docs' / 'reliability.md').read_text().splitlines()


def rows():
    """(line, tests of its last cell as (file, function, kind or '')) of each row with a test."""
    found = []
    for line in LINES:
        tests = []
        for name in re.findall(r'`([^`]*::[^`]*)`', line):
            path, _, rest = name.partition('::')
            function, _, kind = rest.partition('[')
            tests.append((path or tests[-1][0], function, kind.removesuffix(']')))
        if line.startswith('|') and tests:
            found.append((line, tests))
    return found


def test_every_row_names_a_test_that_is_there():
    for line, tests in rows():
        for path, function, kind in tests:
            source = (ROOT / path).read_text()
            assert f'\ndef {function}(' in source, line
            # the kind is the id of one parameter; that of a second one may stand beside it
            kind = re.sub(r'^stage_1-|-stage_1$|-skip$', '', kind)
            assert f"'{kind}'" in source + (ROOT / 'tests' / 'pictures.py').read_text() or not kind, line


def test_every_row_of_a_fault_has_a_test_and_four_cells():
    faults = False
    for line in LINES:
        if not line.startswith('|'):
            faults = False
        elif line.startswith('| fault injected |'):
            faults = True
        elif faults and not line.startswith('| ---'):
            assert '::' in line.split(' | ')[-1] and line.count(' | ') == 3, line


def test_at_least_forty_kinds_of_bad_input():
    text = '\n'.join(LINES)
    bad_input = text[text.index('## Bad pictures') : text.index('## Too many')].splitlines()
    assert sum('::' in line for line in bad_input) >= 40
