"""Effects of `import rtmdet_plugin`, and the parts that it must not load or change."""

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


IMPORT = """
import rtmdet_plugin, sys, json
from mmengine.registry import DefaultScope
print(json.dumps([sorted(sys.modules), DefaultScope.get_current_instance()]))
"""


@pytest.fixture(scope='module')
def imported() -> tuple[list[str], str | None]:
    """Modules that `import rtmdet_plugin` loads in a new process, and the default scope after it."""
    return json.loads(run(IMPORT))


def test_it_registers_and_builds_nothing(imported):
    """Structure instead of seconds: none of the expensive parts is loaded."""
    loaded = set(imported[0])
    assert 'rtmdet_plugin.registration' in loaded
    expensive = {'mmdet.models', 'mmdet.datasets', 'mmdet.engine', 'mmcv.ops', 'mmcv._ext', 'torchvision'}
    ours = {f'rtmdet_plugin.{room}' for room in ('models', 'assigners', 'transforms', 'datasets', 'hooks')}
    assert not (expensive | ours) & loaded


def test_every_kind_is_found_by_name():
    """From mmdet's registries, and from mmengine's under the default scope mmdet, as its Runner asks.

    A fork for each, because what one of them has imported the other would find.
    """
    code = f"""
import json, os
import rtmdet_plugin
import mmdet.registry, mmengine.registry
mmengine.registry.DefaultScope.get_instance('test', scope_name='mmdet')
codes = []
for registries in (mmdet.registry, mmengine.registry):
    child = os.fork()
    if not child:
        for kind, name in {NAMES!r}:
            with getattr(registries, kind).switch_scope_and_registry(None) as registry:
                assert registry.get(name).__name__ == name
        os._exit(7)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""
    assert json.loads(run(code)) == [7, 7]


@pytest.mark.parametrize(('kind', 'name'), NAMES)
def test_each_registry_knows_the_room_of_its_names(kind, name):
    """A registry imports its packages when an unknown name is looked up."""
    assert f'rtmdet_plugin.{registration.PACKAGES[kind][0]}' in getattr(registration.mmdet_registry, kind)._locations
    assert getattr(registration.mmdet_registry, kind).get(name).__name__ == name


@pytest.mark.slow
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
    """A single error, without a chain of causes, says what to install."""

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
    def test_missing(self, monkeypatch, missing):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ImportError, match=f'{missing} must be .* is not installed.*pip install') as caught:
            version.check_stack()
        assert caught.value.__cause__ is None and caught.value.__context__ is None

    def test_missing_when_the_package_is_imported(self):
        """The check is the first thing that the package does."""
        code = """
import sys
sys.modules['torch'] = None
try:
    import rtmdet_plugin
except ImportError as error:
    assert error.__cause__ is None and error.__context__ is None, error
    print(error)
"""
        message = run(code)
        assert 'torch must be' in message and 'pip install' in message

    def test_mmdet_s_own_refusal_is_one_line(self, monkeypatch):
        """mmdet asserts an upper bound of mmcv when it is imported, 3.3.0 that of 2.2.0."""
        if not hasattr(sys.modules['mmdet'], 'mmcv_maximum_version'):
            pytest.skip('this mmdet accepts every mmcv, as the onedl fork does')
        monkeypatch.setattr('mmcv.__version__', '2.99.0')
        monkeypatch.delitem(sys.modules, 'mmdet')
        with pytest.raises(ImportError, match='MMCV==2.99.0.*pip install') as caught:
            version.check_stack()
        assert len(str(caught.value).splitlines()) == 1


def test_the_default_scope_is_left_alone(imported):
    assert imported[1] is None
