"""What `import rtmdet_plugin` does, and what it leaves alone."""

import json
import subprocess
import sys

import pytest

from rtmdet_plugin import registration, version

NAMES = [
    ('MODELS', 'RTMCSPNeXt'),
    ('MODELS', 'RTMSepBNHead'),
    ('MODELS', 'RTMExpMomentumEMA'),
    ('TASK_UTILS', 'RTMDynamicSoftLabelAssigner'),
    ('TRANSFORMS', 'RTMCachedMosaic'),
    ('TRANSFORMS', 'RTMCachedMixUp'),
    ('DATASETS', 'RTMCocoDataset'),
    ('METRICS', 'RTMCocoMetric'),
    ('HOOKS', 'RTMPipelineSwitchHook'),
    ('HOOKS', 'RTMNumClassCheckHook'),
    ('LOOPS', 'RTMEpochBasedTrainLoop'),
    ('OPTIM_WRAPPERS', 'RTMBFloat16OptimWrapper'),
    ('OPTIM_WRAPPER_CONSTRUCTORS', 'RTMOptimWrapperConstructor'),
    ('PARAM_SCHEDULERS', 'RTMFlatCosineLR'),
]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_it_registers_and_builds_nothing():
    """Structure instead of seconds: none of the expensive parts is loaded."""
    code = 'import rtmdet_plugin, sys, json; print(json.dumps(sorted(sys.modules)))'
    loaded = set(json.loads(run(code)))
    assert 'rtmdet_plugin.registration' in loaded
    expensive = {'mmdet.models', 'mmdet.datasets', 'mmdet.engine', 'mmcv.ops', 'mmcv._ext', 'torchvision'}
    ours = {f'rtmdet_plugin.{room}' for room in ('models', 'assigners', 'transforms', 'datasets', 'hooks')}
    assert not (expensive | ours) & loaded


@pytest.mark.parametrize('registries', ['mmdet.registry', 'mmengine.registry'])
def test_every_kind_is_found_by_name(registries):
    """From mmdet's registries, and from mmengine's under the default scope mmdet, as its Runner asks."""
    code = f"""
import importlib, json
import rtmdet_plugin
from mmengine.registry import DefaultScope
DefaultScope.get_instance('test', scope_name='mmdet')
registries = importlib.import_module({registries!r})
found = []
for kind, name in {NAMES!r}:
    with getattr(registries, kind).switch_scope_and_registry(None) as registry:
        found.append([kind, registry.get(name).__name__])
print(json.dumps(found))
"""
    assert json.loads(run(code)) == [list(pair) for pair in NAMES]


@pytest.mark.parametrize(('kind', 'name'), NAMES)
def test_each_registry_knows_the_room_of_its_names(kind, name):
    """It imports the rooms that it knows when it is asked for a name that it hasn't got yet."""
    assert f'rtmdet_plugin.{registration.PACKAGES[kind][0]}' in getattr(registration.mmdet_registry, kind)._locations
    assert getattr(registration.mmdet_registry, kind).get(name).__name__ == name


def test_a_registry_that_was_used_before_gets_them_too():
    code = """
from mmdet.registry import MODELS, TRANSFORMS
MODELS.get('RTMDet'), TRANSFORMS.get('Resize')
import rtmdet_plugin
print(MODELS.get('RTMCSPNeXt').__name__, TRANSFORMS.get('RTMCachedMosaic').__name__)
"""
    assert run(code) == 'RTMCSPNeXt RTMCachedMosaic'


def test_registering_twice_changes_nothing():
    before = {kind: list(getattr(registration.mmdet_registry, kind)._locations) for kind in registration.PACKAGES}
    registration.register_packages()
    assert before == {kind: getattr(registration.mmdet_registry, kind)._locations for kind in registration.PACKAGES}


@pytest.mark.parametrize('private', [None, []])
def test_without_mmengine_s_private_list_the_room_is_imported(monkeypatch, private):
    class Registry:
        _imported = False
        _locations = private

    imported = []
    monkeypatch.setattr(registration, 'PACKAGES', {'MODELS': ('models',)})
    monkeypatch.setattr(registration.mmdet_registry, 'MODELS', Registry())
    monkeypatch.setattr(registration.importlib, 'import_module', imported.append)
    registration.register_packages()
    assert imported == ['rtmdet_plugin.models'] and Registry._locations == private


class TestVersions:
    """One error, no stack of causes, that says what to install."""

    @pytest.mark.parametrize(
        ('text', 'numbers'),
        [('2.13.0+cpu', (2, 13, 0)), ('2.1', (2, 1, 0)), ('0.10.7rc1', (0, 10, 7)), ('2.6.0a0+git1', (2, 6, 0)),
         ('unknown', (0, 0, 0)), ('3.x.1', (3, 0, 0))],
    )  # fmt: skip
    def test_release(self, text, numbers):
        assert version.release(text) == numbers

    @pytest.mark.parametrize(
        ('name', 'found', 'expected'),
        [
            ('torch', '2.5.1', 'torch must be >= 2.6.0, got 2.5.1'),
            ('mmengine', '0.7.1', 'mmengine must be >= 0.10.0, < 1.0.0, got 0.7.1'),
            ('mmcv', '1.7.2', 'mmcv must be >= 2.0.0, < 3.0.0, got 1.7.2'),
            ('mmdet', '2.28.0', 'mmdet must be >= 3.2.0, < 4.0.0, got 2.28.0'),
        ],
    )
    def test_wrong_version(self, monkeypatch, name, found, expected):
        monkeypatch.setattr(sys.modules[name], '__version__', found)
        with pytest.raises(ImportError) as caught:
            version.check_stack()
        assert expected in str(caught.value) and 'pip install ".[lite]"' in str(caught.value)
        assert caught.value.__cause__ is None and caught.value.__context__ is None

    @pytest.mark.parametrize('versions', [('0.10.7', '2.1.0', '3.3.0'), ('0.10.12', '2.3.6', '3.5.1')])
    def test_upstream_and_the_forks_pass(self, monkeypatch, versions):
        for name, found in zip(('mmengine', 'mmcv', 'mmdet'), versions, strict=True):
            monkeypatch.setattr(sys.modules[name], '__version__', found)
        version.check_stack()

    @pytest.mark.parametrize('missing', ['torch', 'mmengine', 'mmcv', 'mmdet'])
    def test_missing(self, missing):
        code = f"""
import sys
sys.modules[{missing!r}] = None
try:
    import rtmdet_plugin
except ImportError as error:
    assert error.__cause__ is None and error.__context__ is None, error
    print(error)
"""
        message = run(code)
        assert missing in message and 'pip install' in message and len(message.splitlines()) == 1

    def test_mmdet_s_own_refusal_is_one_line(self):
        """mmdet 3.3.0 asserts mmcv < 2.2.0 when it is imported."""
        code = """
import mmcv, sys
mmcv.__version__ = '2.2.0'
try:
    import rtmdet_plugin
except ImportError as error:
    print(error)
else:
    print('MMCV==2.2.0 is accepted: pip install')
"""
        message = run(code)
        assert 'MMCV==2.2.0' in message and 'pip install' in message


def test_the_default_scope_is_left_alone():
    code = 'import rtmdet_plugin; from mmengine.registry import DefaultScope as D; print(D.get_current_instance())'
    assert run(code) == 'None'
