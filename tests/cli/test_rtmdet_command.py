"""The command `rtmdet`: its verbs on a real model, and errors as one line."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

from rtmdet_command import VERBS, main  # noqa: E402

CONFIG = str(Path(__file__).parents[2] / 'configs' / 'rtmdet_nano_person.py')


def call(*arguments, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope='module')
def checkpoint(weights_root) -> Path:
    return weights_root / 'rtmdet_nano_person.pth'


@pytest.fixture(scope='module')
def model(checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('model') / 'm.onnx'
    said = call('export', CONFIG, checkpoint, '-o', path, '--opset', '17', '--dynamic', 'all')
    assert said.splitlines()[-1] == f'{path}: form decoded, 1 classes, 320x320 pixels, dynamic axes: all'
    return path


def test_help_and_predict_start_without_torch():
    code = """
import sys
from click.testing import CliRunner
from rtmdet_command import VERBS, main
said = CliRunner().invoke(main, ['--help']).output
assert all(verb in said for verb in VERBS), said
assert not {'rtmdet_plugin', 'rtmdet_runtime', 'torch', 'cv2'} & set(sys.modules)
assert 'IMAGES' in CliRunner().invoke(main, ['predict', '--help']).output
assert not {'rtmdet_plugin', 'torch'} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('verb', VERBS)
def test_each_verb_has_help(verb):
    assert '--help' in call(verb, '--help')


def test_predict(model, data_root, tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for path in sorted((data_root / 'coco_tiny' / 'val2017').glob('*.jpg'))[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    options = ['--size', 320, 320, '--batch-size', 2, '--out', tmp_path / 'drawn', '--json', tmp_path / 'd.json']
    said = call('predict', model, folder, *options).splitlines()
    records = json.loads((tmp_path / 'd.json').read_text())
    assert len(said) == len(records) == 3 and any(line.endswith(' person') for line in said)
    for line, record in zip(said, records, strict=True):
        name = Path(record['image']).name
        count = len(record['boxes'])
        assert line == f'{folder / name}: ' + (f'{count} person' if count else 'nothing')
        assert len(record['scores']) == len(record['classes']) == count and min(record['scores'], default=1) > 0.3
        before, after = cv2.imread(str(folder / name)), cv2.imread(str(tmp_path / 'drawn' / name))
        assert before.shape == after.shape


def test_test(model, checkpoint, data_root, tmp_path, monkeypatch):
    monkeypatch.setenv('RTMDET_COCO', str(data_root / 'coco_tiny') + '/')
    figures = {}  # with a threshold of NMS that isn't the model's own: the config's counts
    for path in (model, checkpoint):
        said = call(
            'test', CONFIG, path, '--json', tmp_path / 'm.json', '--cfg-options', 'test_dataloader.num_workers=0',
            '--cfg-options', 'test_dataloader.persistent_workers=False', '--threads', 1,
            '--cfg-options', 'model.test_cfg.nms.iou_threshold=0.6',
        )  # fmt: skip
        figures[path] = json.loads((tmp_path / 'm.json').read_text())
        assert 'coco/bbox_mAP' in said and '0.264' in said
    assert figures[model].keys() == figures[checkpoint].keys()
    for name, value in figures[checkpoint].items():
        assert figures[model][name] == pytest.approx(value, abs=0.002), name


class TestErrors:
    """One line, exit code 1, no traceback, no file."""

    def said(self, *arguments) -> str:
        lines = call(*arguments, code=1).splitlines()
        assert lines[-1].startswith('Error: ')
        assert not any('Traceback' in line for line in lines)
        return lines[-1]

    def test_export(self, checkpoint, tmp_path):
        out = tmp_path / 'm.onnx'
        assert 'none.py: no such config' in self.said('export', tmp_path / 'none.py', checkpoint, '-o', out)
        assert 'does not fit' in self.said('export', CONFIG.replace('_person', ''), checkpoint, '-o', out)
        said = self.said('export', CONFIG, checkpoint, '-o', out, '--size', 300, 320)
        assert 'size=(300, 320); accepted: (height, width), multiples of 32' in said
        assert 'ends in .onnx, .xml, .param' in self.said('export', CONFIG, checkpoint, '-o', tmp_path / 'm.trt')
        said = self.said('export', CONFIG, checkpoint, '-o', out, '--cfg-options', 'model')
        assert '--cfg-options model; accepted: KEY=VALUE' in said
        assert not list(tmp_path.iterdir())

    def test_predict(self, model, tmp_path):
        assert 'no such image' in self.said('predict', model, tmp_path / 'none.jpg')
        (tmp_path / 'a.jpg').write_text('no picture')
        assert 'a.jpg: not an image that OpenCV reads' in self.said('predict', model, tmp_path)
        (tmp_path / 'empty').mkdir()
        assert 'a folder without images' in self.said('predict', model, tmp_path / 'empty')
        assert 'no backend' in self.said('predict', CONFIG, tmp_path)

    def test_test(self, tmp_path):
        assert 'none.pth: no such checkpoint' in self.said('test', CONFIG, tmp_path / 'none.pth')
        assert 'none.onnx: no such model' in self.said('test', CONFIG, tmp_path / 'none.onnx')

    def test_a_traceback_for_those_who_ask(self, tmp_path):
        done = CliRunner().invoke(main, ['--traceback', 'predict', str(tmp_path / 'm.onnx'), 'a.jpg'])
        assert isinstance(done.exception, FileNotFoundError)


def test_export_through_mmdeploy(checkpoint, data_root, tmp_path):
    pytest.importorskip('mmdeploy', reason='mmdeploy is not installed')
    deploy_cfg = Path(CONFIG).parent / 'deploy' / 'onnxruntime_static.py'
    image = data_root / 'coco_tiny' / 'val2017' / '000000017627.jpg'
    arguments = ('export', CONFIG, checkpoint, '-o', tmp_path / 'deployed', '--deploy-cfg', deploy_cfg)
    assert '--image PICTURE' in call(*arguments, code=1)
    said = call(*arguments, '--image', image, '--opset', '17', code=1)
    assert "none of ['opset']" in said and not (tmp_path / 'deployed').exists()
    said = call(*arguments, '--image', image)
    assert 'end2end.onnx' in said and 'against PyTorch' in said and (tmp_path / 'deployed' / 'deploy.json').is_file()
    # For TensorRT the graph alone, because its engines are built elsewhere.
    arguments = (*arguments[:4], tmp_path / 'm.onnx', '--deploy-cfg', deploy_cfg.with_name('tensorrt_fp16_static.py'))
    assert 'm.onnx: the graph alone' in call(*arguments, '--image', image)
    assert b'EfficientNMS_TRT' in (tmp_path / 'm.onnx').read_bytes()


def test_predict_draws_over_no_picture(model, data_root, tmp_path):
    source = sorted((data_root / 'coco_tiny' / 'val2017').glob('*.jpg'))[0]
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'x.jpg').write_bytes(source.read_bytes())
    said = call('predict', model, tmp_path / 'a', '--out', tmp_path / 'a', code=1)
    assert 'would be drawn over' in said and (tmp_path / 'a' / 'x.jpg').read_bytes() == source.read_bytes()
    said = call('predict', model, tmp_path / 'a', tmp_path / 'b', '--out', tmp_path / 'drawn', code=1)
    assert 'have one name' in said and not (tmp_path / 'drawn').exists()
