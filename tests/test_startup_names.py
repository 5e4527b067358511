"""`rtmdet_plugin::name.py` works in place of the path of a config: Config, DetInferencer, mim train, mim test.

For `mim`, mmdet is the name of a fork of it as well.
"""

import importlib.metadata
from pathlib import Path

import click
import pytest
from mim.cli import MIM
from mmdet.apis import DetInferencer
from mmengine.config import Config

CONFIGS = Path(__file__).parents[1] / 'configs'
NAMED = 'rtmdet_plugin::rtmdet_nano_person.py'


def test_config():
    named = Config.fromfile(NAMED)
    assert named.pretty_text == Config.fromfile(CONFIGS / 'rtmdet_nano_person.py').pretty_text
    assert Path(named.filename).is_file(), 'mmdet names the work directory after it'
    with pytest.raises(FileNotFoundError, match='rtmdet_nan.py: not one of the .* the nearest: rtmdet_nano.py'):
        Config.fromfile('rtmdet_plugin::rtmdet_nan.py')


def test_inferencer():
    assert DetInferencer(NAMED, device='cpu').model.bbox_head.num_classes == 1


@pytest.mark.parametrize('command', ['train', 'test'])
def test_mim(command):
    (config,) = [parameter for parameter in MIM().get_command(None, command).params if parameter.name == 'config']
    assert Path(config.callback(None, config, NAMED)).samefile(CONFIGS / 'rtmdet_nano_person.py')
    assert config.callback(None, config, 'cats.py') == 'cats.py'
    with pytest.raises(click.ClickException, match='the nearest: rtmdet_nano.py'):
        config.callback(None, config, 'rtmdet_plugin::rtmdet_nan.py')


@pytest.mark.parametrize(
    ('installed', 'given', 'found'),
    [
        ('onedl-mmdetection', 'mmdet', 'onedl-mmdetection'),
        ('onedl-mmdetection', 'MMDet', 'onedl-mmdetection'),
        ('onedl-mmdetection', 'mmyolo', 'mmyolo'),
        ('mmdet', 'mmdet', 'mmdet'),
    ],
)
@pytest.mark.parametrize('command', ['train', 'test'])
def test_mim_finds_mmdet_in_a_fork(monkeypatch, command, installed, given, found):
    """Without that, mim offers to install mmdet, whose files would replace the fork's."""

    def distribution(name):
        if name != installed:
            raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, 'distribution', distribution)
    monkeypatch.setattr(importlib.metadata, 'packages_distributions', lambda: {'mmdet': [installed]})
    (package,) = [parameter for parameter in MIM().get_command(None, command).params if parameter.name == 'package']
    assert package.callback(None, package, given) == found
