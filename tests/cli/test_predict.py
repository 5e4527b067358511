"""`rtmdet predict` on generated images and a model without a network: what it writes, and what it never replaces."""

import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

from rtmdet_cli.main import main  # noqa: E402
from rtmdet_runtime.drawing import check_image, write_image  # noqa: E402
from rtmdet_runtime.sources.item import Item, Video  # noqa: E402
from rtmdet_runtime.writers import names as names_module  # noqa: E402

BOXES, SCORES = [[0, 0, 10 + 1 / 3, 10 + 1 / 7]], [[0.9 + 1 / 300, 0]]


@pytest.fixture
def folder(constant_model, tmp_path, monkeypatch) -> Path:
    """The working folder: model.onnx, and images with a.png and b.png."""
    monkeypatch.chdir(tmp_path)
    constant_model(BOXES, SCORES)
    (tmp_path / 'images').mkdir()
    for name in 'ab':
        write(tmp_path / 'images' / f'{name}.png')
    return tmp_path


def write(path: Path) -> None:
    path.write_bytes(cv2.imencode('.png', np.full((64, 96, 3), 90, np.uint8))[1].tobytes())


def call(*arguments, code: int):
    done = CliRunner().invoke(main, ['predict', *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_no_output_replaces_an_input_or_a_file_of_another_kind(folder):
    (folder / 'annotations.json').write_text(json.dumps(dict(images=[], annotations=[])))
    (folder / 'results.json').write_text(json.dumps([dict(image_id=1, bbox=[])]))
    (folder / 'createml.json').write_text(json.dumps([dict(image='a.png', annotations=[])]))
    os.link('model.onnx', 'hard.json')
    (folder / 'link.json').symlink_to('images/a.png')
    before = contents(folder)
    for arguments, said in (
        (('--json', 'images/a.png', 'images/b.png'), 'images/a.png must end in .json'),
        (('images/a.png', '--json', 'images/a.png'), 'images/a.png must end in .json'),
        (('images/a.png', '--json', 'model.onnx'), 'model.onnx must end in .json'),
        (('images/a.png', '--json', './hard.json'), 'hard.json would replace the input model.onnx'),
        (('images', '--json', 'link.json'), 'link.json would replace the input images/a.png'),
        (('images', '--json', 'annotations.json'), 'annotations.json would replace a file of another kind'),
        (('images', '--json', 'results.json'), 'results.json would replace a file of another kind'),
        (('images', '--json', 'createml.json'), 'createml.json would replace a file of another kind'),
        (('images', '--out', 'images'), 'images/a.png would replace the input images/a.png'),
        ((folder / 'images' / 'a.png', '--out', 'images/../images'), 'a.png would replace the input'),
    ):
        assert said in call('model.onnx', *arguments, code=1).stderr
        assert contents(folder) == before


def test_the_json_beside_an_ncnn_model_is_an_input(folder):
    (folder / 'm.param').touch()
    (folder / 'm.json').write_text('[]')
    assert 'would replace the input m.json' in call('m.param', 'images', '--json', 'm.json', code=1).stderr


def test_a_drawn_image_replaces_no_other_input(folder):
    (folder / 'others').mkdir()
    write(folder / 'others' / 'a.png')
    said = call('model.onnx', 'images/a.png', 'others', '--out', 'others', code=1).stderr
    assert 'others/a.png would replace the input others/a.png' in said
    (folder / 'drawn').mkdir()
    (folder / 'drawn' / 'a.png').symlink_to('../images/b.png')
    assert 'would replace the input images/b.png' in call('model.onnx', 'images', '--out', 'drawn', code=1).stderr


def test_outputs_of_the_same_name_get_a_number(folder):
    (folder / 'others').mkdir()
    write(folder / 'others' / 'a.png')
    (folder / 'others' / 'a.jpg').write_bytes((folder / 'others' / 'a.png').read_bytes())
    call('model.onnx', 'images/a.png', 'others', 'images', '--out', 'new', '--save', 'yolo', code=0)
    assert sorted(path.name for path in Path('new').iterdir()) == [
        'a.png', 'a_2.jpg', 'a_3.png', 'a_4.png', 'b.png', 'labels_yolo'
    ]  # fmt: skip
    assert len(list(Path('new/labels_yolo').glob('a*.txt'))) == 4


def test_many_equal_names_take_no_quadratic_time(monkeypatch):
    key, calls = names_module._key, []
    monkeypatch.setattr(names_module, '_key', lambda path: calls.append(path) or key(path))
    names, item = names_module.OutputNames(), Item(None, '', Path('a.png'))
    found = [names.of(item), names.of(Item(None, '', Path('a_2.png'))), *(names.of(item) for _ in range(1000))]
    assert [str(path) for path in found[:4]] == ['a.png', 'a_2.png', 'a_3.png', 'a_4.png'] and len(set(found)) == 1002
    assert len(calls) < 4 * len(found)


@pytest.mark.parametrize('video_first', [False, True])
def test_frames_and_images_have_different_names(video_first):
    names = names_module.OutputNames(['classes'])
    frame = Item(None, '', Path('a/clip.mp4'), video=Video(Fraction(25), Fraction(1, 25)), frame=1)
    items = [frame, Item(None, '', Path('a/clip_000001.jpg')), Item(None, '', Path('clip_000001.jpg'))]
    found = [names_module.of_frame(names.of(item), item) for item in (items if video_first else items[1:] + items[:1])]
    assert len({path.with_suffix('') for path in found}) == 3 and Path('clip_000001.jpg') in found
    assert names.of(Item(None, '', Path('classes.png'))) == Path('classes_2.png')


def test_a_drawn_image_replaces_no_image_that_was_not_drawn(folder):
    (folder / 'originals').mkdir()
    write(folder / 'originals' / 'b.png')
    before = contents(folder)
    said = call('model.onnx', 'images', '--out', 'originals', code=1).stderr
    assert 'originals/b.png would replace a file that rtmdet did not write' in said
    assert (folder / 'originals' / 'a.png').is_file() and before.items() <= contents(folder).items()


def test_a_threshold_and_an_ending_that_can_not_be_used(folder):
    said = call('model.onnx', 'images', '--score-thr', 2, code=1).stderr
    assert '--conf must be from 0 to 1, got 2.0' in said
    (folder / 'c.xyz').touch()
    said = call('model.onnx', 'c.xyz', '--out', 'drawn', code=1).stderr
    assert 'c.xyz must end in .bmp, .jpg, .png, .tif, .webp or another' in said


@pytest.mark.parametrize('ending', ['.bmp', '.jpg', '.png', '.tif', '.webp'])
def test_the_mark_of_a_drawn_image_is_no_part_of_it(tmp_path, ending):
    image = np.full((64, 96, 3), 90, np.uint8)
    write_image(tmp_path / f'a{ending}', image)
    check_image(tmp_path / f'a{ending}', {}, (ending,))
    assert np.abs(cv2.imread(str(tmp_path / f'a{ending}')).astype(int) - image).max() <= 2


def test_an_image_that_opencv_can_not_decode_is_listed_and_the_others_are_drawn(folder):
    (folder / 'images' / 'c.HEIC').write_bytes(b'x')
    (folder / 'images' / '.hidden.png').write_bytes(b'x')
    said = call('model.onnx', 'images', '--out', 'drawn', code=1).stderr
    assert 'c.HEIC' in said and 'bad images: 1 of 3' in said
    assert sorted(path.name for path in (folder / 'drawn').iterdir()) == ['a.png', 'b.png']


def test_an_earlier_result_is_replaced(folder):
    for file in ('new/d.json', 'images/d.json') * 2:
        call('model.onnx', 'images', '--json', file, '--out', 'drawn', code=0)
        assert len(json.loads(Path(file).read_text())) == 2


def test_numbers_in_json_are_short(folder):
    call('model.onnx', 'images', '--json', 'd.json', code=0)
    text = Path('d.json').read_text()
    assert json.loads(text)[0] == dict(
        image='images/a.png', boxes=[[0.0, 0.0, 10.333, 10.143]], scores=[0.9033], classes=['cat']
    )
    assert max(len(number) for number in re.findall(r'\d+\.(\d+)', text)) == 4


def test_json_to_standard_output(folder):
    done = call('model.onnx', 'images', '--json', '-', code=0)
    assert len(json.loads(done.stdout)) == 2 and not Path('-').exists()
    assert done.stderr.splitlines() == ['images/a.png: 1 cat', 'images/b.png: 1 cat']


def test_bad_images_are_listed_and_the_rest_is_written(folder):
    (folder / 'images' / 'aa.png').write_text('no image')
    done = call('model.onnx', 'images', 'none.png', '--json', 'd.json', '--out', 'drawn', '--batch-size', 3, code=1)
    assert [record['image'] for record in json.loads(Path('d.json').read_text())] == ['images/a.png', 'images/b.png']
    assert sorted(path.name for path in Path('drawn').iterdir()) == ['a.png', 'b.png']
    lines = done.stderr.splitlines()
    assert 'aa.png' in lines[0] and lines[1] == 'none.png: no such image'
    assert lines[2] == 'Error: bad images: 2 of 4, listed above; 2 were predicted'


def fail_at_second_image(monkeypatch, error: BaseException) -> None:
    original, seen = Path.write_bytes, []

    def fail(path: Path, content: bytes) -> None:
        seen.append(path)
        if len(seen) == 2:
            raise error
        original(path, content)

    monkeypatch.setattr(Path, 'write_bytes', fail)


def test_ctrl_c_keeps_what_was_found(folder, monkeypatch):
    fail_at_second_image(monkeypatch, KeyboardInterrupt())
    done = call('model.onnx', 'images', 'images/a.png', '--out', 'drawn', '--json', 'd.json', code=130)
    assert done.stderr.splitlines() == ['images that are done, with complete outputs: 1', 'Interrupted']
    assert len(json.loads(Path('d.json').read_text())) == 1
    assert [path.name for path in Path('drawn').iterdir()] == ['a.png']


def test_a_full_disk_names_the_file_and_keeps_what_was_found(folder, monkeypatch):
    fail_at_second_image(monkeypatch, OSError(28, 'No space left on device'))
    done = call('model.onnx', 'images', '--out', 'drawn', '--json', 'd.json', code=1)
    assert done.stderr.splitlines()[-1] == 'Error: drawn/b.png can not be written: No space left on device'
    assert len(json.loads(Path('d.json').read_text())) == 1
    assert [path.name for path in Path('drawn').iterdir()] == ['a.png']


def test_an_error_before_the_first_image_leaves_the_old_json(folder, monkeypatch):
    call('model.onnx', 'images', '--json', 'd.json', code=0)
    interrupted = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    monkeypatch.setattr('rtmdet_runtime.stream.detect', interrupted)
    call('model.onnx', 'images', '--json', 'd.json', code=130)
    assert len(json.loads(Path('d.json').read_text())) == 2


@pytest.mark.parametrize('options', ['', '--json -'])
def test_a_full_standard_output_is_one_line(folder, options):
    command = f'{sys.executable} -m rtmdet_cli.main predict model.onnx images {options} > /dev/full'
    env = dict(os.environ, PYTHONUNBUFFERED='')  # with a buffer, Python would report the rest when it ends
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, env=env)
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and 'can not be written: No space left on device' in line and 'standard output' in line
    assert 'Exception ignored' not in done.stderr


def test_places_for_json_that_can_not_serve(folder):
    (folder / 'loop.json').symlink_to('loop.json')
    (folder / 'full.json').symlink_to('/dev/full')
    (folder / 'to_new.json').symlink_to('new/d.json')
    for name in ('loop.json', 'full.json', 'model.onnx/d.json', '/proc/none/d.json'):
        assert f'{name} can not be written: ' in call('model.onnx', 'images', '--json', name, code=1).stderr
    call('model.onnx', 'images', '--json', 'to_new.json', code=0)
    assert Path('to_new.json').is_symlink() and Path('new/d.json').is_file()


def test_the_precision_of_prediction_and_of_evaluation(folder, monkeypatch):
    """Prediction runs in the fastest precision, and AP is measured in the same on every CPU."""
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    asked = []

    def open_backend(path, backend, threads, precision):
        asked.append(precision)
        raise ValueError('seen')

    monkeypatch.setattr('rtmdet_runtime.detector.open_backend', open_backend)
    config = Path(__file__).parents[2] / 'configs' / 'rtmdet_nano.py'
    for command in (
        ['predict', 'model.onnx', 'images'],
        ['val', 'model.onnx', 'images'],
        ['test', config, 'model.onnx'],
    ):
        for options in ([], ['--precision', 'bfloat16']):
            done = CliRunner().invoke(main, [*map(str, command), *options])
            assert done.exit_code == 1 and 'Error: seen' in done.stderr, done.output
    assert asked == ['auto', 'bfloat16', 'float32', 'bfloat16', 'float32', 'bfloat16']
