"""projects/predict_at_scale: lists of images, parts, bad images; and, with Ray, a run that is resumed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from constant_model import write_constant_model

from rtmdet_runtime import RTMDetector

pq = pytest.importorskip('pyarrow.parquet', reason='pyarrow is not installed')

FILE = Path(__file__).parents[2] / 'projects' / 'predict_at_scale' / 'predict.py'
spec = importlib.util.spec_from_file_location('predict_at_scale', FILE)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

BAD = 'b/0 bad #1%20é.png'


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model, and seven images in nested folders, one of which is bad."""
    write_constant_model(tmp_path / 'model.onnx', [[0, 0, 32, 32], [40, 10, 60, 20]], [[0.9, 0.0], [0.0, 0.5]])
    for i, name in enumerate(('z.png', 'a/1.png', 'a/2.PNG', 'a/deep/3.png', 'b/4.png', 'b/5.png')):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode('.png', np.full((16 * (i + 1), 40, 3), 50, np.uint8))[1].tobytes())
    (tmp_path / 'images' / BAD).write_text('text')
    (tmp_path / 'images' / 'notes.txt').touch()
    return tmp_path


def listed(folder: Path, *sources: Path, part_size: int = 3, model: str = 'x') -> int:
    return script.list_images(script.Place.of(str(folder / 'out')), [str(path) for path in sources], part_size, model)


def worker(folder: Path):
    content = (folder / 'model.onnx').read_bytes()
    return script.Predictor(content, f'file://{folder}/out/', [str(folder / 'images')], batch_size=2, threads=1)


def results(folder: Path) -> dict[str, dict]:
    rows = pq.read_table(folder / 'out').to_pylist()  # files whose names begin with _ or . are none of the table
    found = {row['image']: row for row in rows}
    assert len(found) == len(rows), 'each image once'
    return found


def test_each_image_has_one_row_and_a_bad_one_its_error(folder):
    assert listed(folder, folder / 'images') == 3
    predict = worker(folder)
    counts = [predict(dict(part=part)) for part in range(3)]
    assert [(count['images'], count['errors']) for count in counts] == [(3, 0), (3, 1), (1, 0)]
    found, detector = results(folder), RTMDetector(folder / 'model.onnx')
    images = {str(path) for path in (folder / 'images').rglob('*.*') if path.suffix != '.txt'}
    assert found.keys() == images and len(images) == 7
    bad = found.pop(str(folder / 'images' / BAD))
    assert 'must be an image' in bad['error'] and bad['boxes'] is None
    for path, row in found.items():
        expected = detector.predict(path)
        assert row['error'] is None and row['classes'] == ['cat', 'dog']
        assert np.array_equal(row['boxes'], expected.boxes) and np.allclose(row['scores'], expected.scores)


def test_parts_that_are_written_are_not_missing(folder):
    out = script.Place.of(str(folder / 'out'))
    assert listed(folder, folder / 'images') == 3 and script.missing_parts(out, 3) == [0, 1, 2]
    worker(folder)(dict(part=1))
    (folder / 'images' / 'new.png').touch()
    assert listed(folder, folder / 'images') == 3 and script.missing_parts(out, 3) == [0, 2]


def test_a_file_that_is_not_complete_is_no_part(folder):
    out = script.Place.of(str(folder / 'out'))

    def groups():
        yield [dict(image='a.png')]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        script.write_table(out, 'part-000000.parquet', script.RESULT_SCHEMA, groups())
    assert list((folder / 'out').iterdir()) and script.missing_parts(out, 1) == [0]


def test_an_error_of_the_store_is_no_bad_image(folder, monkeypatch):
    """Otherwise a network that fails for a minute would leave thousands of images without boxes."""
    listed(folder, folder / 'images')
    predict = worker(folder)

    def fail(data, path):
        raise OSError('connection reset')

    monkeypatch.setattr(script, 'decode_image', fail)
    with pytest.raises(OSError, match='connection reset'):
        predict(dict(part=0))
    assert script.missing_parts(predict.out, 3) == [0, 1, 2]


def test_wrong_settings_are_refused(folder):
    with pytest.raises(ValueError, match='must not contain each other'):
        listed(folder, folder / 'images' / 'a', folder / 'images')
    with pytest.raises(ValueError, match='part size must be at least 1, got 0'):
        listed(folder, folder / 'images', part_size=0)
    (folder / 'none').mkdir()
    with pytest.raises(ValueError, match='must have images'):
        listed(folder, folder / 'none')
    assert listed(folder, folder / 'images') == 3
    with pytest.raises(ValueError, match='another run; choose another folder'):
        listed(folder, folder / 'images', model='y')


@pytest.mark.slow
def test_a_run_with_ray_is_resumed(folder):
    pytest.importorskip('ray', reason='ray is not installed')
    command = [sys.executable, FILE, 'model.onnx', 'out', 'images', '--part-size=2', '--workers=1']

    def run() -> str:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert re.search('^4 of 4 parts .*4/4 parts, 7 images, 1 with an error', run(), flags=re.DOTALL)
    kept = folder / 'out' / 'part-000000.parquet'
    before = kept.stat().st_mtime_ns
    (folder / 'out' / 'part-000002.parquet').unlink()
    assert run().startswith('1 of 4 parts')
    assert run() == '0 of 4 parts are missing\n'
    assert len(results(folder)) == 7 and kept.stat().st_mtime_ns == before
