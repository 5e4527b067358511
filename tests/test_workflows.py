"""`.github/workflows`: its jobs call make targets that exist, on the Python versions that the package names."""

import itertools
import re

import pytest
import yaml
from smoke.run import EXTRAS, STACKS
from wheels import REPO

WORKFLOWS = sorted((REPO / '.github' / 'workflows').glob('*.yml'))
TARGETS = set(re.findall(r'^([a-z-]+):', (REPO / 'Makefile').read_text(), re.MULTILINE))


def jobs_of(path):
    return yaml.safe_load(path.read_text())['jobs']


def commands(job: dict) -> list[str]:
    """The `run` lines of a job, one for each value of its matrix."""
    matrix = job.get('strategy', {}).get('matrix', {})
    names = list(matrix)
    lines = []
    for values in itertools.product(*matrix.values()):
        for line in (step['run'] for step in job['steps'] if 'run' in step):
            for name, value in zip(names, values, strict=True):
                line = line.replace(f'${{{{ matrix.{name} }}}}', value)
            lines.append(line)
    return lines


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_jobs_call_make_targets_that_exist(path):
    for name, job in jobs_of(path).items():
        assert commands(job), name
        for command in commands(job):
            make, target, *settings = command.split()
            assert make == 'make' and target in TARGETS, command
            assert all(re.fullmatch(r'[A-Z]+=\S+', setting) for setting in settings), command


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_jobs_may_only_read_and_have_an_end(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow['permissions'] == {'contents': 'read'}
    for name, job in workflow['jobs'].items():
        assert job['timeout-minutes'] <= 180 and 'permissions' not in job, name
        actions = [step['uses'] for step in job['steps'] if 'uses' in step]
        assert all(re.fullmatch(r'actions/[a-z-]+@v\d+', action) for action in actions), actions


def test_each_python_that_the_package_names_is_tested():
    named = re.findall(r'Python :: (3\.\d+)"', (REPO / 'pyproject.toml').read_text())
    assert jobs_of(REPO / '.github' / 'workflows' / 'ci.yml')['test']['strategy']['matrix']['python'] == named
    assert len(named) == 4


def test_each_smoke_test_is_called():
    lines = [line for path in WORKFLOWS for job in jobs_of(path).values() for line in commands(job)]
    called = {line.partition('EXTRA=')[2] for line in lines if line.startswith('make smoke')}
    assert called == set(EXTRAS)
    scripts = {path.stem for path in (REPO / 'tests' / 'smoke').glob('*.py')} - {'run', 'write_model'}
    assert scripts == called - set(STACKS)
