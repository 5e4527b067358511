"""The wheel in an environment without access to the repository; and the checks of `make setup` and `make smoke`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from wheels import REPO, build_wheel, clean_environment, copy_source

CONFIGS = sorted(path.relative_to(REPO).as_posix() for path in (REPO / 'configs').rglob('*.py'))


def call(*command, cwd, code=0, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=clean_environment(**environment),
        timeout=300,
    )
    assert done.returncode == code, f'{command}\n{done.stdout}\n{done.stderr}'
    return done


def build_from(source: Path, out: Path) -> Path:
    return build_wheel(sys.executable, source, out, '--no-build-isolation')


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """A copy of the sources for builds, which leave `build/` and `*.egg-info` and would use them again."""
    source = tmp_path_factory.mktemp('source')
    copy_source(source)
    return source


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('wheel')
    return build_from(source, out)


class Environment:
    """A virtual environment that sees the packages of this one, but not this repository."""

    def __init__(self, root: Path):
        call(sys.executable, '-m', 'venv', '--without-pip', root, cwd=root.parent)
        self.python = root / 'bin' / 'python'
        self.site = Path(
            call(self.python, '-c', 'import site; print(site.getsitepackages()[0])', cwd='/').stdout.strip()
        )
        # A plain path in a .pth: .pth files in that folder (an editable install of this repository) don't run.
        (self.site / 'stack.pth').write_text(sysconfig.get_path('purelib') + '\n')

    def install(self, *what, cwd):
        call(
            sys.executable, '-m', 'pip', '--python', self.python, 'install', '-q', '--no-deps',
            '--no-build-isolation', '--force-reinstall', *what, cwd=cwd,
        )  # fmt: skip

    def run(self, code, cwd, **environment) -> list[str]:
        return call(self.python, '-c', code, cwd=cwd, **environment).stdout.strip().splitlines()


@pytest.fixture(scope='module')
def environment(wheel, tmp_path_factory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp('env') / 'venv')
    environment.install(wheel, cwd='/')
    return environment


@pytest.fixture()
def empty(tmp_path) -> Path:
    return tmp_path


LOAD = """
import sys
from mmengine.config import Config
assert 'rtmdet_plugin' not in sys.modules, 'mmengine must find it without the plugin'
config = Config.fromfile('my_config.py')
print(config.model.backbone.type, config.train_dataloader.batch_size)
print('_scope_' in config.pretty_text, config.model.backbone.get('_scope_'))
print(next(f for f in sys.modules if f == 'rtmdet_plugin_startup'), sys.modules['rtmdet_plugin_startup'].__file__)
"""


def test_a_user_s_config_begins_with_a_packaged_one(environment, empty):
    (empty / 'my_config.py').write_text(
        "_base_ = 'rtmdet_plugin::rtmdet_tiny.py'\ntrain_dataloader = dict(batch_size=3)\n"
    )
    lines = environment.run(LOAD, empty)
    assert lines[0] == 'RTMCSPNeXt 3'
    assert lines[1] == 'False None'
    assert str(environment.site) in lines[2]


def test_several_bases_with_folders_and_mmdet_s_own(environment, empty):
    (empty / 'local.py').write_text('mine = 1\n')
    (empty / 'my_config.py').write_text(
        "_base_ = ['./local.py', 'rtmdet_plugin::_base_/model.py', 'mmdet::_base_/default_runtime.py']\n"
    )
    code = """
from mmengine.config import Config
config = Config.fromfile('my_config.py')
print(config.mine, config.model.type, config.log_level)
"""
    assert environment.run(code, empty)[-1] == '1 RTMDet INFO'


def test_an_unknown_packaged_config_lists_the_nearest_ones(environment, empty):
    (empty / 'my_config.py').write_text("_base_ = 'rtmdet_plugin::rtmdet_huge.py'\n")
    code = """
from mmengine.config import Config
try:
    Config.fromfile('my_config.py')
except FileNotFoundError as error:
    print(error)
"""
    message = environment.run(code, empty)[-1]
    assert 'rtmdet_huge.py' in message and 'the nearest: ' in message and 'rtmdet_nano.py' in message


@pytest.mark.slow  # test_a_user_s_config_begins_with_a_packaged_one reads them without a checkout as well
def test_the_command_takes_packaged_configs_by_name(environment, empty):
    """`rtmdet export` and the reader of deploy configs work without a checkout."""
    code = """
import sys
import torch
import rtmdet_plugin
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from rtmdet_cli.main import main
from rtmdet_plugin.checkpoints.load_model import load_config
init_default_scope('mmdet')
model = load_config('rtmdet_plugin::rtmdet_nano_person.py').model
model.backbone.init_cfg = None
torch.save(MODELS.build(model).state_dict(), 'random.pth')
sys.argv[1:] = ['export', 'rtmdet_plugin::rtmdet_nano_person.py', 'random.pth',
                '-o', 'm.onnx', '--opset', '17', '--size', '64', '64']
main(standalone_mode=False)
from rtmdet_plugin.mmdeploy_support.config import load_deploy_config
print(load_deploy_config('rtmdet_plugin::deploy/onnxruntime_static.py').filename)
"""
    pytest.importorskip('onnx', reason='onnx is not installed')
    said = environment.run(code, empty)
    assert said[-2].startswith('m.onnx: export format decoded, 1 classes, 64x64 pixels, dynamic axes: none, ')
    assert said[-1] == f'{environment.site}/rtmdet_plugin/.mim/configs/deploy/onnxruntime_static.py'
    assert (empty / 'm.onnx').is_file()


@pytest.mark.slow  # a process for each case
def test_mmcv_s_operators_import_without_us(environment, empty):
    """As mmdet's DetInferencer imports them; `test_end_to_end.py` runs it."""
    code = """
import sys
assert 'rtmdet_plugin' not in sys.modules
import mmcv.ops
print(sys.modules['mmcv._ext'].__spec__.origin)
"""
    if environment.run('import importlib.util as u; print(u.find_spec("mmcv._ext").origin)', empty) == [
        'stand-in of rtmdet_plugin'
    ]:
        assert environment.run(code, empty) == ['stand-in of rtmdet_plugin']


def test_the_start_loads_nothing_but_the_hook(environment, empty):
    code = """
import sys
heavy = {'torch', 'mmengine', 'mmcv', 'numpy'}
print(*sorted(name for name in sys.modules if name.split('.')[0] in heavy or 'rtmdet' in name))
"""
    assert environment.run(code, empty) == ['rtmdet_plugin_startup']


def test_the_start_can_be_switched_off(environment, empty):
    code = 'import sys; print([f for f in sys.meta_path if "rtmdet" in getattr(f, "__module__", "")])'
    assert environment.run(code, empty, RTMDET_PLUGIN_NO_STARTUP='1') == ['[]']
    assert environment.run(code, empty, RTMDET_PLUGIN_NO_STARTUP='0') != ['[]']


def test_switched_off_importing_the_package_does_it(environment, empty):
    (empty / 'my_config.py').write_text("_base_ = 'rtmdet_plugin::rtmdet_tiny.py'\n")
    code = """
import rtmdet_plugin
from mmengine.config import Config
print(Config.fromfile('my_config.py').model.backbone.type)
"""
    assert environment.run(code, empty, RTMDET_PLUGIN_NO_STARTUP='1')[-1] == 'RTMCSPNeXt'


def test_a_pth_without_its_package_is_silent(tmp_path):
    single = Environment(tmp_path / 'venv')
    shutil.copy(REPO / 'rtmdet_plugin.pth', single.site)
    done = call(single.python, '-c', 'print("ok")', cwd=tmp_path)
    assert (done.stdout, done.stderr) == ('ok\n', '')


def test_the_hook_without_its_package_changes_nothing(tmp_path):
    """Only the start-up module, as after a broken uninstall: `mmcv._ext` is absent again, mmdet's bases work."""
    single = Environment(tmp_path / 'venv')
    for name in ('rtmdet_plugin.pth', 'rtmdet_plugin_startup.py'):
        shutil.copy(REPO / name, single.site)
    (tmp_path / 'my_config.py').write_text("_base_ = 'mmdet::_base_/default_runtime.py'\n")
    code = """
import importlib.util
from mmengine.config import Config
print(Config.fromfile('my_config.py').log_level)
spec = importlib.util.find_spec('mmcv._ext')
print(spec is None or 'stand-in' not in spec.origin)
"""
    assert single.run(code, tmp_path)[-2:] == ['INFO', 'True']


@pytest.mark.slow  # an installation
def test_an_editable_install_has_the_start_too(source, tmp_path):
    editable = Environment(tmp_path / 'venv')
    editable.install('-e', '.', cwd=source)
    assert (editable.site / 'rtmdet_plugin.pth').read_text() == (REPO / 'rtmdet_plugin.pth').read_text()
    (tmp_path / 'my_config.py').write_text(
        "_base_ = 'rtmdet_plugin::rtmdet_tiny.py'\ntrain_dataloader = dict(batch_size=3)\n"
    )
    lines = editable.run(LOAD, tmp_path)
    assert lines[0] == 'RTMCSPNeXt 3' and str(source) in lines[2]


def test_what_the_wheel_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        index = yaml.safe_load(archive.read('rtmdet_plugin/.mim/model-index.yml'))
        for path in index['Import']:
            models = yaml.safe_load(archive.read(f'rtmdet_plugin/.mim/{path}'))['Models']
            assert {f'rtmdet_plugin/.mim/{model["Config"]}' for model in models} <= names
        metadata = archive.read(next(n for n in names if n.endswith('METADATA'))).decode()
    assert {f'rtmdet_plugin/.mim/{path}' for path in CONFIGS} <= names
    assert {'rtmdet_plugin.pth', 'rtmdet_plugin_startup.py', 'rtmdet_plugin/py.typed'} <= names
    pages = {f'rtmdet_plugin/report/templates/{name}' for name in ('page.html', 'style.css', 'zoom.js')}
    assert pages == {name for name in names if '/templates/' in name}
    assert {name.split('/')[0].split('-')[0] for name in names} == {
        'rtmdet_cli', 'rtmdet_plugin', 'rtmdet_plugin.pth', 'rtmdet_plugin_startup.py',
        'rtmdet_runtime',
    }  # fmt: skip
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert required == [f'Requires-Dist: {name}' for name in ('click', 'imagesize>=2', 'numpy')], (
        'OpenMMLab and torch are in extras, or pip overwrites a fork'
    )


def test_the_sdist_builds_the_same_wheel(source, wheel, tmp_path):
    """In the sdist, links are real files."""
    code = "import setuptools.build_meta as backend; print(backend.build_sdist('out'))"
    (source / 'out').mkdir()
    archive = source / 'out' / call(sys.executable, '-c', code, cwd=source).stdout.split()[-1]
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter='data') if hasattr(tarfile, 'data_filter') else tar.extractall(tmp_path)
    unpacked = next(tmp_path.iterdir())
    with zipfile.ZipFile(build_from(unpacked, tmp_path)) as again, zipfile.ZipFile(wheel) as first:
        assert sorted(again.namelist()) == sorted(first.namelist())


def test_metafile_s_models_are_the_configs():
    models = yaml.safe_load((REPO / 'configs' / 'metafile.yml').read_text())['Models']
    assert sorted(m['Config'] for m in models) == [c for c in CONFIGS if c.count('/') == 1]
    assert all(m['Name'] == Path(m['Config']).stem for m in models)


def fake_python(folder: Path, script: str) -> Path:
    path = folder / 'python-fake'
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ('script', 'said'),
    [
        ('echo 3.9', 'must be Python 3.10 to 3.13, got 3.9'),
        ('echo 3.14', 'must be Python 3.10 to 3.13, got 3.14'),
        ('exit 1', 'must be a Python interpreter of version 3.10 to 3.13'),
        ('case "$2" in *venv*) exit 1;; esac; echo 3.11', 'apt install python3.11-venv'),
    ],
)  # fmt: skip
def test_make_setup_refuses_in_one_line(tmp_path, script, said):
    python = fake_python(tmp_path, script)
    done = call('make', 'setup', f'PYTHON={python}', f'VENV={tmp_path}/venv', cwd=REPO, code=2)
    lines = [line for line in done.stderr.splitlines() if not line.startswith('make')]
    assert len(lines) == 1 and said in lines[0] and 'PYTHON=python3.12 make setup' in lines[0]
    assert not (tmp_path / 'venv').exists()


def test_make_setup_without_that_interpreter(tmp_path):
    done = call('make', 'setup', 'PYTHON=python3.99', f'VENV={tmp_path}/venv', cwd=REPO, code=2)
    assert "setup: 'python3.99' must be a Python interpreter of version 3.10 to 3.13" in done.stderr


def test_ci_fails_when_lint_or_test_fails(tmp_path):
    """`.ci/run` with a `make` that fails in one target: both run, and the exit status says so."""
    (tmp_path / 'make').write_text('#!/bin/sh\necho "$1 $RTMDET_DATA"\n[ "$1" != "$FAILS" ]\n')
    (tmp_path / 'make').chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    for fails, code in (('lint', 1), ('test', 1), ('none', 0)):
        done = call(REPO / '.ci' / 'run', cwd=tmp_path, code=code, PATH=path, FAILS=fails, RTMDET_DATA='/given')
        assert done.stdout.splitlines() == ['lint /given', 'test /given']


@pytest.mark.parametrize('extra', ['', 'demo'])
def test_make_smoke_refuses_in_one_line(extra):
    done = call('make', 'smoke', f'EXTRA={extra}', cwd=REPO, code=2)
    lines = [line for line in done.stderr.splitlines() if not line.startswith('make')]
    known = 'lite or runtime or deploy or full or onedl'
    assert lines == [f'smoke: EXTRA must be {known}, got {extra!r}: make smoke EXTRA=runtime']
