"""The command `rtmdet` around its commands: help without heavy imports, version, Ctrl-C, missing packages."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rtmdet_cli.main import COMMANDS, main
from rtmdet_plugin.version import __version__
from rtmdet_runtime.messages import PACKAGES, missing_package

HEAVY = {
    *(
        'torch',
        'mmdet',
        'mmengine',
        'mmcv',
        'onnx',
        'onnxruntime',
        'cv2',
        'numpy',
        'scipy',
        'matplotlib',
        'rich',
        'yaml',
    ),
    'rtmdet_plugin',
}


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)


def test_help_and_version_import_nothing_heavy():
    done = run(f"""
import sys
from click.testing import CliRunner
from rtmdet_cli.main import COMMANDS, main
for arguments in [['--help'], ['--version'], *([verb, '--help'] for verb in COMMANDS)]:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert not {HEAVY!r} & set(sys.modules), arguments
print(CliRunner().invoke(main, ['--version']).output)
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['rtmdet', __version__]


@pytest.mark.parametrize('verb', COMMANDS)
def test_ctrl_c_is_one_line_and_130(verb, monkeypatch):
    def interrupted(**_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.get_command(None, verb), 'callback', interrupted)
    monkeypatch.setattr(main.get_command(None, verb), 'params', [])
    done = CliRunner().invoke(main, [verb])
    assert (done.exit_code, done.output) == (130, 'Interrupted\n')


def test_without_click():
    done = run("import sys; sys.modules['click'] = None; import rtmdet_cli.main")
    assert done.returncode == 1
    assert done.stderr == 'Error: rtmdet needs click, which is not installed: pip install click\n'


@pytest.mark.parametrize(
    ('verb', 'module', 'arguments'),
    [
        ('predict', 'cv2', 'm.onnx a.png'),
        ('predict', 'onnxruntime', 'm.onnx a.png'),
        ('predict', 'openvino', 'm.xml a.png'),
        ('predict', 'ncnn', 'm.param a.png'),
        ('predict', 'tensorrt', 'm.engine a.png'),
        pytest.param('quantize', 'onnxruntime', 'm.onnx . -o q.onnx', marks=pytest.mark.slow),
        pytest.param('export', 'onnx', 'a.py a.pth -o m.onnx', marks=pytest.mark.slow),
        pytest.param('publish', 'safetensors', 'a.pth', marks=pytest.mark.slow),
    ],
)
def test_a_missing_package_is_named_with_its_extra(verb, module, arguments, tmp_path):
    """In a process of its own, because modules that are loaded already would not be missed."""
    for name in ('m.onnx', 'm.xml', 'm.param', 'm.engine', 'a.png'):
        (tmp_path / name).touch()
    done = run(f"""
import os, sys
os.chdir({str(tmp_path)!r})
if {verb!r} == 'publish':
    import torch
    torch.save(dict(state_dict=dict(x=torch.ones(1))), 'a.pth')
sys.modules[{module!r}] = None
from rtmdet_cli.main import main
main([{verb!r}, *{arguments.split()!r}])
""")
    package, extra = PACKAGES[module]
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        rf'Error: .* needs {package}, which is not installed: pip install "\.\[{extra}\]" in a checkout of '
        rf'rtmdet_plugin, or pip install {package}',
        line,
    ), done.stderr


@pytest.mark.parametrize('arguments', ['benchmark m.onnx', 'test a.py m.onnx', 'val m.onnx images'])
def test_missing_pytorch_is_named_before_what_needs_less(arguments):
    done = run(f"""
import sys
for name in ('torch', 'rich'):
    sys.modules[name] = None
from rtmdet_cli.main import main
main({arguments.split()!r})
""")
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert 'torch must be' in line and 'is not installed' in line and 'pip install ".[lite]"' in line, done.stderr


def test_a_missing_package_of_the_runtime_itself_is_named():
    error = missing_package(ModuleNotFoundError(name='imagesize'), 'rtmdet predict')
    assert str(error) == 'rtmdet predict needs imagesize, which is not installed: pip install imagesize'


def test_extras_bring_what_their_lines_promise():
    text = (Path(__file__).parents[2] / 'pyproject.toml').read_text()
    for package, extra in PACKAGES.values():
        if extra is not None:
            (content,) = re.findall(rf'^{extra} = \[(.*?)\](?:  #.*)?$', text, flags=re.MULTILINE | re.DOTALL)
            assert f'"{package}' in content, (package, extra)
    for extra in ('lite', 'full', 'onedl'):
        assert f'{extra} = [\n    "rtmdet_plugin[deploy]"' in text


def test_each_option_has_help():
    for verb in COMMANDS:
        options = [option for option in main.get_command(None, verb).params if isinstance(option, click.Option)]
        assert options and not [option.name for option in options if not (option.help or option.hidden)], verb


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """The working folder, with files that need not be read before a command refuses to replace them."""
    monkeypatch.chdir(tmp_path)
    for name in ('m.onnx', 'm.xml', 'm.bin', 'e.engine.onnx', 'w.pth', 'config.json', 'a.onnx', 'b.onnx'):
        Path(name).write_text(f'content of {name}')
    Path('link.onnx').symlink_to('m.onnx')
    Path('link.json').symlink_to('config.json')
    Path('linked.bin').hardlink_to('w.pth')
    Path('linked.cache').hardlink_to('m.onnx')
    Path('images').mkdir()
    return tmp_path


def refusals(folder: Path, commands: dict[str, str]) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for arguments, said in commands.items():
        done = CliRunner().invoke(main, arguments.split())
        assert done.exit_code == 1 and said in done.stderr, (arguments, done.output)
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before, arguments


def test_no_output_replaces_an_input(files):
    commands = {
        'quantize m.onnx images -o ./m.onnx': 'm.onnx would replace the input m.onnx',
        'quantize m.onnx images -o images/../link.onnx': 'would replace the input m.onnx',
        'export config.py w.pth -o linked.xml': 'linked.bin would replace the input w.pth',
        'engine e.engine.onnx -o e.engine --for-trtexec': 'e.engine.onnx would replace the input',
        'engine m.onnx -o e.engine --timing-cache m.xml': 'm.xml must end in .cache',
        'engine m.onnx -o e.engine --timing-cache linked.cache': 'linked.cache would replace the input m.onnx',
        'publish w.pth -o w.pth': 'w.pth would replace the input w.pth',
        'benchmark --json a.onnx b.onnx': 'a.onnx must end in .json',
        'test config.json m.onnx --json config.json': 'config.json would replace the input config.json',
        'test config.json m.onnx --json link.json': 'link.json would replace the input config.json',
        'val m.onnx config.json --json link.json': 'link.json would replace the input config.json',
        'val m.onnx boxes.csv --csv ./boxes.csv': 'boxes.csv would replace the input boxes.csv',
        'val m.onnx images --csv m.onnx': 'm.onnx must end in .csv',
    }
    (files / 'boxes.csv').write_text('filename,width\n')
    refusals(files, commands)


def test_no_output_replaces_a_file_of_another_kind(files):
    (files / 'n.json').write_text('{"images": []}')
    (files / 'label_map.json').write_text('{"cat": 0}')
    (files / 'labels.xml').write_text('<?xml version="1.0"?><annotation><folder>VOC2007</folder></annotation>')
    (files / 'notes.param').write_text('learning rate 0.004')
    (files / 'firmware.bin').write_bytes(b'x')
    commands = {
        'export config.py w.pth -o w.pth': 'w.pth must end in .onnx, .xml, .param',
        'export config.py w.pth -o n.param': 'n.json would replace a file of another kind',
        'export config.py w.pth -o labels.xml': 'labels.xml would replace a file of another kind',
        'export config.py w.pth -o notes.param': 'notes.param would replace a file of another kind',
        'export config.py w.pth -o firmware.xml': 'firmware.bin would replace a file of another kind',
        'quantize m.onnx images -o a.onnx': 'a.onnx would replace a file of another kind',
        'quantize m.onnx images -o m.param': 'm.param must end in .onnx, .xml',
        'engine m.onnx -o m.onnx': 'm.onnx must end in .engine',
        'publish w.pth -o m.onnx': 'm.onnx must end in .safetensors, .pth',
        'benchmark m.onnx --json n.json': 'n.json would replace a file of another kind',
        'test config.py m.onnx --json label_map.json': 'label_map.json would replace a file of another kind',
        'test config.py m.onnx --json n.json': 'n.json would replace a file of another kind',
        'val m.onnx images --json n.json': 'n.json would replace a file of another kind',
        'val m.onnx images --csv labels.csv': 'labels.csv would replace a file of another kind',
    }
    (files / 'labels.csv').write_text('filename,width\n')
    refusals(files, commands)
