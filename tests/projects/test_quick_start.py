"""The notebook projects/quick_start.ipynb: its code runs from top to bottom, and stands without the output of a run."""

import json
import re

import pytest
from user_commands import run_line
from user_run import ROOT

CELLS = json.loads((ROOT / 'projects' / 'quick_start.ipynb').read_text())['cells']
CODE = [cell for cell in CELLS if cell['cell_type'] == 'code']
BUDGET = {'IMAGES, EPOCHS = 160, 3': 'IMAGES, EPOCHS = 8, 1'}


def test_the_notebook_has_no_output_and_one_cell_that_installs():
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in CODE)
    assert [cell['metadata'].get('tags') for cell in CODE].count(['install']) == 1


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    """All cells but the one that installs, as one script; lines that begin with ! are commands."""
    for folder in ('projects', 'configs'):  # the demo's config has its base there
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / 'projects' / 'demo')  # undone with all that the notebook adds
    code = '\n'.join(''.join(cell['source']) for cell in CODE if cell['metadata'].get('tags') != ['install'])
    for shown, small in BUDGET.items():
        assert shown in code
        code = code.replace(shown, small)
    code = re.sub(r'^!(.*)$', r"run_line(f'''\1''')", code, flags=re.MULTILINE)
    names = dict(run_line=run_line)
    exec(compile(code, 'quick_start.ipynb', 'exec'), names)
    assert len(names['found'].boxes) > 0, 'the fine-tuned model finds nothing'
    assert 'AP ' in capsys.readouterr().out
