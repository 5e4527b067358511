"""The command `rtmdet`: its commands on a trained model, and errors as one line."""

import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from samples import CLASSES, ROOT, SHAPES_CONFIG, assert_same_ap

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

from rtmdet_cli.main import main  # noqa: E402
from rtmdet_runtime.drawing import write_image  # noqa: E402
from rtmdet_runtime.messages import one_line  # noqa: E402

CONFIG = str(SHAPES_CONFIG)


def call(*arguments, code: int = 0) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(autouse=True)
def data_of_the_config(shapes, monkeypatch):
    monkeypatch.setenv('RTMDET_DEMO_DATA', str(shapes))


@pytest.fixture
def checkpoint(shapes_checkpoint) -> Path:
    return shapes_checkpoint


@pytest.fixture(scope='module')
def model(shapes_checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('model') / 'm.onnx'
    said = call('export', CONFIG, shapes_checkpoint, '-o', path, '--opset', '17', '--dynamic', 'all')
    assert said.splitlines()[-1] == (
        f'{path}: export format decoded, 4 classes, 128x128 pixels, dynamic axes: all, '
        'thresholds: score 0.25, iou 0.65, max_per_img 100'
    )
    return path


def test_predict(model, shape_images, tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for path in shape_images[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    cv2.imwrite(str(folder / 'grey.png'), np.full((90, 120, 3), 128, np.uint8))
    options = ['--size', 160, 128, '--batch-size', 2, '--out', tmp_path / 'drawn', '--json', tmp_path / 'd.json']
    said = call('predict', model, folder, *options).splitlines()
    records = json.loads((tmp_path / 'd.json').read_text())
    assert len(said) == len(records) == 4 and said[-1] == f'{folder / "grey.png"}: nothing'
    for line, record in zip(said, records, strict=True):
        name = Path(record['image']).name
        assert line.startswith(f'{folder / name}: ')
        counts = {kind: int(count) for count, kind in re.findall(r'(\d+) (\w+)', line.split(': ')[-1])}
        assert counts == {label: record['classes'].count(label) for label in CLASSES if label in record['classes']}
        assert len(record['scores']) == len(record['classes']) == len(record['boxes']) == sum(counts.values())
        assert bool(counts) == (name != 'grey.png') and min(record['scores'], default=1) > 0.25
        before, after = cv2.imread(str(folder / name)), cv2.imread(str(tmp_path / 'drawn' / name))
        assert before.shape == after.shape


def test_test(model, checkpoint, tmp_path, monkeypatch):
    """The same AP from each kind of file, with a limit that isn't the model's own: the config's counts."""
    monkeypatch.chdir(tmp_path)  # the folder of the log
    figures = {}
    published = tmp_path / 'p.safetensors'
    call('publish', checkpoint, '--out', published)
    for path in (model, checkpoint, published):
        said = call(
            'test', CONFIG, path, '--json', tmp_path / 'm.json', '--batch-size', 10,
            '--cfg-options', 'model.test_cfg.max_per_img=1',
        )  # fmt: skip
        figures[path] = json.loads((tmp_path / 'm.json').read_text())
        assert re.search(rf'coco/bbox_mAP\W+{figures[path]["coco/bbox_mAP"]:.3f}', said), said
    assert figures[published] == figures[checkpoint]
    assert_same_ap(figures[model], figures[checkpoint])
    assert 0.1 < figures[checkpoint]['coco/bbox_mAP'] < 0.6, 'one box for each image; with all of them it is 0.8'


def test_test_says_which_thresholds_count(model, checkpoint, tmp_path):
    path = tmp_path / 'n.onnx'
    call('export', CONFIG, checkpoint, '-o', path, '--opset', '17', '--form', 'nms', '--for-map')
    few = ('--cfg-options', 'test_dataloader.dataset.indices=2')
    others = (*few, '--cfg-options', 'model.test_cfg.score_thr=0.4')
    said = call('test', CONFIG, path, *others)
    assert 'thresholds in the graph (score 0.001, iou 0.65, max_per_img 300), not with those of the config' in said
    assert '(score 0.4, iou 0.65, max_per_img 300); for these, export the model with --for-map' in said
    assert 'thresholds' not in call('test', CONFIG, path, *few) + call('test', CONFIG, model, *others)


def test_predict_takes_the_threshold_of_the_model_or_the_caller(model, shape_images, tmp_path):
    """Also one below the model's, 0.25."""
    found = {}
    for score_thr in (None, 0.01, 0.6):
        options = () if score_thr is None else ('--score-thr', score_thr)
        call('predict', model, *shape_images[:3], '--json', tmp_path / 'd.json', *options)
        found[score_thr] = sorted(
            s for record in json.loads((tmp_path / 'd.json').read_text()) for s in record['scores']
        )
    assert 0.01 < found[0.01][0] < 0.2
    assert found[None] == [score for score in found[0.01] if score > 0.25]
    assert found[0.6] == [score for score in found[0.01] if score > 0.6]


def test_a_picture_that_its_format_does_not_take(tmp_path):
    with pytest.raises(ValueError, match=r'a.webp: OpenCV can not write an image of \(1, 20000\)'):
        write_image(tmp_path / 'a.webp', np.zeros((1, 20000, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def refusal(*arguments, code: int = 1) -> str:
    """The one line that is said: no traceback, exit code 1, or 2 where click itself refuses."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    assert 'Traceback' not in done.output
    line = done.stderr.splitlines()[-1]
    assert line.startswith('Error: ')
    return line


def test_export_refuses(checkpoint, tmp_path):
    out = tmp_path / 'm.onnx'
    assert 'none.py: no such config' in refusal('export', tmp_path / 'none.py', checkpoint, '-o', out)
    assert 'does not fit' in refusal('export', ROOT / 'configs' / 'rtmdet_nano.py', checkpoint, '-o', out)
    said = refusal('export', CONFIG, checkpoint, '-o', out, '--size', 300, 320)
    assert 'Error: size must be (height, width), multiples of 32 up to 16384, got (300, 320)' in said
    assert 'must end in .onnx, .xml, .param, got .trt' in refusal(
        'export', CONFIG, checkpoint, '-o', tmp_path / 'm.trt'
    )
    said = refusal('export', CONFIG, checkpoint, '-o', out, '--cfg-options', 'model')
    assert '--cfg-options must be KEY=VALUE, got model' in said
    assert not list(tmp_path.iterdir())


def test_predict_refuses(model, tmp_path):
    assert 'none.jpg: no such image' in call('predict', model, tmp_path / 'none.jpg', code=1)
    (tmp_path / 'empty').mkdir()
    assert 'must be a folder with images' in refusal('predict', model, tmp_path / 'empty')
    assert 'model must end in one of .engine, .onnx' in refusal('predict', CONFIG, 'a.jpg')


def test_test_refuses(model, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv('RTMDET_DEMO_DATA', '/nowhere')
    assert 'none.onnx: no such model' in refusal('test', CONFIG, tmp_path / 'none.onnx')
    assert 'MODEL must end in one of .engine, .onnx' in refusal('test', CONFIG, tmp_path / 'm.pt')
    for path in (model, checkpoint):
        said = refusal('test', CONFIG, path)
        assert said.endswith('no such file: /nowhere/val.json')
        said = refusal('test', CONFIG, path, '--cfg-options', 'test_evaluator=None')
        assert 'must have test_evaluator' in said
        assert 'it has no model.backbone' in refusal('test', CONFIG, path, '--cfg-options', 'model=1')
        assert 'batch-size' in refusal('test', CONFIG, path, '--batch-size', 0, code=2)
    said = refusal('test', CONFIG, checkpoint, '--threads', 1, '--backend', 'openvino', '--precision', 'auto')
    assert 'MODEL must be an exported model for --backend, --threads, --precision, got the checkpoint' in said
    said = refusal('test', CONFIG, model, '--cfg-options', 'model.test_cfg.score_thr=nan')
    assert 'score_thr must be from 0 to 1, got nan' in said


def test_a_checkpoint_that_is_none(tmp_path):
    (tmp_path / 'folder.pth').mkdir()
    (tmp_path / 'empty.pth').touch()
    (tmp_path / 'text.safetensors').write_text('no checkpoint')
    for name, said in (
        ('none.pth', 'no such checkpoint'),
        ('folder.pth', 'no such checkpoint'),
        ('empty.pth', 'is cut off, altered, or no checkpoint'),
        ('text.safetensors', 'is cut off, altered, or no .safetensors file'),
    ):
        out = tmp_path / 'new' / 'm.pth'
        assert name in refusal('test', CONFIG, tmp_path / name)
        assert said in refusal('publish', tmp_path / name, '--out', out)
        assert said in refusal('export', CONFIG, tmp_path / name, '-o', out.with_suffix('.onnx'))
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('content', ['', 'no model', 'cut'])
def test_a_model_that_is_none(model, tmp_path, content):
    bad = tmp_path / 'bad.onnx'
    bad.write_bytes(model.read_bytes()[:99999] if content == 'cut' else content.encode())
    (tmp_path / 'a.png').write_bytes(cv2.imencode('.png', np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    assert 'bad.onnx' in refusal('predict', bad, tmp_path)
    assert 'bad.onnx' in refusal('test', CONFIG, bad)
    assert 'bad.onnx must be an ONNX file' in refusal('quantize', bad, tmp_path, '-o', tmp_path / 'q.onnx')
    assert 'bad.onnx must be an ONNX file' in refusal('engine', bad, '-o', tmp_path / 'e.engine')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'bad.onnx']


def test_numbers_out_of_their_range(model, tmp_path):
    for score in ('nan', '-0.1', '1.1', 'inf'):
        assert f'--conf must be from 0 to 1, got {score}' in refusal('predict', model, 'a.jpg', '--score-thr', score)
    for size in ((0, 0), (-32, 32), (33, 32)):
        refusal('predict', model, 'a.jpg', '--size', *size)
    for verb, *arguments in (('predict', model, 'a.jpg'), ('quantize', model, tmp_path, '-o', tmp_path / 'q.onnx')):
        assert '0 is not in the range' in refusal(verb, *arguments, '--threads', 0, code=2)
        assert '1025 is not in the range' in refusal(verb, *arguments, '--threads', 1025, code=2)
    assert '0 is not in the range' in refusal('predict', model, 'a.jpg', '--batch-size', 0, code=2)


def test_places_that_can_not_be_written_come_before_the_work(model, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr('rtmdet_runtime.detector.RTMDetector.__init__', None)
    monkeypatch.setattr('rtmdet_plugin.checkpoints.load_model.load_model', None)
    (tmp_path / 'a.png').touch()
    (tmp_path / 'folder.onnx').mkdir()
    (tmp_path / 'folder.json').mkdir()
    (tmp_path / 'folder.pth').mkdir()
    for place in (tmp_path / 'folder.onnx', tmp_path / 'a.png' / 'x.onnx'):
        for verb, *arguments in (
            ('export', CONFIG, checkpoint, '-o', place),
            ('quantize', model, tmp_path, '-o', place),
            ('predict', model, tmp_path, '--json', place.with_suffix('.json')),
            ('test', CONFIG, model, '--json', place.with_suffix('.json')),
        ):
            assert f'{arguments[-1]} can not be written' in refusal(verb, *arguments)
    said = refusal('predict', model, tmp_path, '--out', tmp_path / 'a.png')
    assert f'{tmp_path}/a.png/image can not be written: {tmp_path}/a.png: Not a directory' in said
    assert 'can not be written' in refusal('publish', checkpoint, '--out', tmp_path / 'folder.pth')
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize('name', ['a', 'a.xyz', '.jpg'])
def test_endings_that_can_not_be_drawn_to(model, shape_images, tmp_path, name):
    for path in (tmp_path / name, tmp_path / 'b.jpg'):
        path.write_bytes(shape_images[0].read_bytes())
    said = refusal('predict', model, tmp_path / 'b.jpg', tmp_path / name, '--out', tmp_path / 'drawn')
    assert f'the name of {tmp_path / name} must end in .bmp, .jpg,' in said
    assert not (tmp_path / 'drawn').exists()
    assert 'nothing' in call('predict', model, tmp_path / name, '--score-thr', 1)


def test_options_that_do_not_fit(model, checkpoint, tmp_path):
    export = ('export', CONFIG, checkpoint, '-o', tmp_path / 'm.onnx')
    mmdeploy = ('--deploy-cfg', 'rtmdet_plugin::deploy/sdk.py', '--image', 'a.jpg')
    assert 'option of `rtmdet mmdeploy` now: run that with the same arguments' in refusal(*export, *mmdeploy)
    for change, said in (
        ('=1', 'must be KEY=VALUE'),
        ('model=1', 'it has no model.backbone'),
        ('model.backbone.depth=[1,', 'does not fit'),
        ('test_pipeline.99.type=1', 'does not fit'),
        ('model.backbone.type=None', 'its model cannot be built'),
        ('model.test_cfg.nms=1', 'test_cfg.nms must be a dict such as'),
        ('model.test_cfg=None', 'model.test_cfg must be a dict such as'),
        ('model.test_cfg.score_thr=abc', "score_thr must be a number, got 'abc'"),
        ('test_dataloader.dataset.pipeline=[1]', "dict(type='Resize', ...), got [1]"),
    ):
        assert said in refusal(*export, '--cfg-options', change)
        if 'test_cfg' in change:
            assert said in refusal('test', CONFIG, model, '--cfg-options', change)
            assert said in refusal('test', CONFIG, checkpoint, '--cfg-options', change)
    for device in ('none', 'mps', 'cuda:99'):
        for arguments in (('mmdeploy', *export[1:], *mmdeploy), ('benchmark', '--torch', CONFIG, checkpoint)):
            assert f"got '{device}'" in refusal(*arguments, '--device', device)
    assert not list(tmp_path.iterdir())


def test_shipped_configs_that_are_none(checkpoint, tmp_path):
    for name, said in (('rtmdet_plugin::rtmdet_xl.py', 'nearest: rtmdet_x.py'), ('no::a.py', "no package 'no'")):
        assert said in refusal('export', name, checkpoint, '-o', tmp_path / 'm.onnx')
        assert said in refusal('test', name, checkpoint)


def test_a_name_that_is_no_text(tmp_path):
    name = os.fsdecode(b'\xff.onnx')
    assert '?.onnx: no such model' in refusal('predict', tmp_path / name, 'a.jpg')


def test_an_error_of_a_worker_is_its_message():
    trace = 'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File'
    assert one_line(ValueError(f'{trace} "a.py"\nKeyError: 1\n\nDuring\n\na.b.ValueError: x\n  y')) == 'x y'


def test_a_traceback_for_those_who_ask(tmp_path):
    done = CliRunner().invoke(main, ['--traceback', 'predict', str(tmp_path / 'm.onnx'), 'a.jpg'])
    assert isinstance(done.exception, FileNotFoundError)


def test_export_through_mmdeploy(checkpoint, shape_images, tmp_path):
    pytest.importorskip('mmdeploy', reason='mmdeploy is not installed')
    deploy_cfg = 'rtmdet_plugin::deploy/onnxruntime_static.py'
    image = shape_images[0]
    arguments = ('mmdeploy', CONFIG, checkpoint, '-o', tmp_path / 'deployed', '--deploy-cfg', deploy_cfg)
    said = call(*arguments, '--image', image)
    assert 'end2end.onnx' in said and 'against PyTorch' in said and (tmp_path / 'deployed' / 'deploy.json').is_file()
    # For TensorRT only the graph, because its engines are built elsewhere.
    arguments = (*arguments[:4], tmp_path / 'm.onnx', '--deploy-cfg', 'rtmdet_plugin::deploy/tensorrt_fp16_static.py')
    assert 'm.onnx: only the graph, not compared' in call(*arguments, '--image', image)
    assert b'EfficientNMS_TRT' in (tmp_path / 'm.onnx').read_bytes()


def test_predict_draws_over_no_picture(model, shape_images, tmp_path):
    source = shape_images[0]
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'x.jpg').write_bytes(source.read_bytes())
    said = call('predict', model, tmp_path / 'a', '--out', tmp_path / 'a', code=1)
    assert 'would replace the input' in said and (tmp_path / 'a' / 'x.jpg').read_bytes() == source.read_bytes()
    call('predict', model, tmp_path / 'a', tmp_path / 'b', '--out', tmp_path / 'drawn')
    assert sorted(path.name for path in (tmp_path / 'drawn').iterdir()) == ['x.jpg', 'x_2.jpg']
