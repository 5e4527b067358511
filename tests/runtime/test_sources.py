"""`read_sources` and `RTMDetector.__call__`: files, folders, patterns and images in memory."""

import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtmdet_runtime import Detections, RTMDetector
from rtmdet_runtime.sources import folders, is_one_image, read_sources
from rtmdet_runtime.sources.item import Problem

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')


def image(height: int = 64, width: int = 96, value: int = 50) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def write(path: Path, **settings) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.png', image(**settings))[1].tobytes())
    return path


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """The working folder: images/{b,a}.png, images/deep/c.png, a hidden image, a text."""
    monkeypatch.chdir(tmp_path)
    for name in ('b.png', 'a.png', 'deep/c.png', '.hidden.png'):
        write(tmp_path / 'images' / name)
    (tmp_path / 'images' / 'notes.txt').touch()
    return tmp_path


@pytest.fixture
def detector(constant_model) -> RTMDetector:
    return RTMDetector(constant_model([[0, 0, 32, 32]], [[0.9, 0]]))


def outputs(*sources, **settings) -> list[str]:
    return [str(item.output) for item in read_sources(sources, **settings)]


def test_folders_and_patterns_keep_their_folders(tree):
    assert outputs('images') == outputs(Path('images')) == ['a.png', 'b.png']
    assert outputs('images', recursive=True) == ['a.png', 'b.png', 'deep/c.png']
    assert outputs('images/**/*.png') == ['a.png', 'b.png', 'deep/c.png']
    (tree / 'images' / 'deep' / 'loop').symlink_to('..')
    assert outputs('images', recursive=True) == ['a.png', 'b.png', 'deep/c.png'], 'a loop of links'
    assert outputs('images/?.png', ['images/a.png', 'images/deep/c.png']) == ['a.png', 'b.png', 'a.png', 'c.png']
    (tree / 'images' / '[x].png').write_bytes((tree / 'images' / 'a.png').read_bytes())
    assert outputs('images/[x].png') == ['[x].png'], 'a file whose name looks like a pattern'


def test_a_folder_is_read_while_it_is_used(tree, monkeypatch):
    """Names are sorted in parts, so that the first image doesn't wait for a million names."""
    monkeypatch.setattr(folders, 'SORTED_AT_ONCE', 2)
    for number in range(4):
        write(tree / 'many' / f'{number}.png')
    assert sorted(outputs('many')) == [f'{number}.png' for number in range(4)]
    seen = []
    monkeypatch.setattr('rtmdet_runtime.sources.folders.is_image', lambda name: seen.append(name) or True)
    next(folders.images_in(Path('many'), False))
    assert len(seen) == 1


def test_sources_without_images(tree):
    (tree / 'empty').mkdir()
    for source, said in (
        ('empty', 'empty must be a folder with images .*, got none; --recursive'),
        ('images/*.jpg', 'must match at least one file, got none'),
        (object(), 'source must be a path, pattern, .* got object'),
        (3.5, 'got float'),
        (b'a.png', 'got bytes'),
    ):
        with pytest.raises(ValueError, match=said):
            list(read_sources([source]))


def test_what_can_not_be_read_is_a_problem_and_the_rest_is_read(tree):
    (tree / 'images' / 'ab.png').write_text('no image')
    (tree / 'data.zip').write_bytes(b'PK')
    items = list(read_sources(['images', 'none.png', 'data.zip', 'images/a.png']))
    lines = [item.line if isinstance(item, Problem) else item.output.name for item in items]
    assert lines[0] == 'a.png' and 'ab.png must be an image that OpenCV can decode' in lines[1]
    assert lines[2:4] == ['b.png', 'none.png: no such image']
    assert lines[4] == 'data.zip must be an image, a video or a folder, got an archive; unpack it first'
    assert lines[5] == 'a.png'


def test_an_odd_entry_does_not_end_the_run(tree, monkeypatch):
    (tree / 'images' / 'itself').symlink_to('itself')
    (tree / 'images' / 'itself.png').symlink_to('itself.png')
    (tree / 'empty').mkdir()
    scan = folders.os.scandir
    denied = lambda path: scan(path) if 'deep' not in str(path) else scan(tree / 'none')  # noqa: E731
    monkeypatch.setattr(folders.os, 'scandir', denied)
    sources = [
        'images',
        'empty',
        'none/*.png',
        'x' * 300,
        iter(['y' * 300]),
        'http://[::1/a.png',
        'a\0.png',
        'images/a.png',
    ]
    items = list(read_sources(sources, recursive=True))
    lines = [item.line if isinstance(item, Problem) else item.output.name for item in items]
    assert lines[:2] == ['a.png', 'b.png'] and 'itself.png' in lines[2] and 'No such file' in lines[3]
    assert 'empty must be a folder with images' in lines[4] and 'none/*.png must match' in lines[5]
    assert lines[6] == f'the name of a file must have at most 255 bytes, got {"x" * 60}...' and 'yyy...' in lines[7]
    assert 'Invalid IPv6' in lines[8] and 'no such image' in lines[9] and lines[10:] == ['a.png']


def test_one_image_gives_one_result_and_all_else_an_iterator(tree, detector):
    for source in ('images/a.png', Path('images/a.png'), image()):
        assert is_one_image(source) and isinstance(detector(source), Detections)
    for source in ('images', ['images/a.png'], 'images/*.png', np.stack([image()] * 2), 0, 'a.mp4', 'rtsp://host/a'):
        assert not is_one_image(source)
    results = detector('images', batch_size=2)
    assert isinstance(results, types.GeneratorType)
    assert [found.source for found in results] == ['images/a.png', 'images/b.png']
    assert [len(found) for found in detector([image(), 'images', [image()]])] == [1, 1, 1, 1]


def test_the_results_know_their_image(tree, detector):
    found = detector('images/a.png')
    assert (found.source, found.image.shape, found.names) == ('images/a.png', (64, 96, 3), ['cat'])
    assert detector.predict('images/a.png').image is None and (detector.predict('images/a.png').plot() != 50).any()
    assert detector.predict(image()).image is not None and detector(image()).source == ''


def test_problems_in_python(tree, detector):
    (tree / 'images' / 'ab.png').write_text('no image')
    with pytest.warns(UserWarning, match='ab.png must be an image'):
        assert len(list(detector('images'))) == 2
    with pytest.raises(ValueError, match='ab.png must be an image'):
        detector('images/ab.png')
    with pytest.raises(FileNotFoundError, match='none.png: no such image'):
        detector('none.png')
    with pytest.raises(ValueError, match='every must be at least 1, got 0'):
        detector('images', every=0)


def test_pil_images(detector):
    PIL = pytest.importorskip('PIL.Image', reason='Pillow is not installed')
    bgr = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    (item,) = read_sources([PIL.fromarray(bgr[:, :, ::-1])])
    np.testing.assert_array_equal(item.image, bgr)
    assert detector(PIL.new('L', (96, 64))).image.shape == (64, 96, 3)
    rotated = PIL.new('RGB', (96, 64))
    rotated.getexif()[0x0112] = 6  # a quarter turn
    assert detector(rotated).image.shape == (96, 64, 3)


def test_tensors(detector):
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    bgr = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    tensor = torch.from_numpy(bgr[:, :, ::-1].copy()).permute(2, 0, 1)
    for source in (tensor, tensor.float() / 255):
        (item,) = read_sources([source])
        np.testing.assert_array_equal(item.image, bgr)
    assert len(detector(tensor)) == 1 and len(list(detector(torch.stack([tensor] * 3)))) == 3
    for source, said in (
        (tensor.float(), 'values of a float tensor must be from 0 to 1, got 0 to 25'),
        (tensor[:2], r'tensor must be RGB, \(3, H, W\) or \(B, 3, H, W\), got shape \(2, 64, 96\)'),
        (tensor.long(), 'must be uint8 or float, got torch.int64'),
        (tensor.float() * torch.nan, 'must be from 0 to 1, got nan'),
    ):
        with pytest.raises(ValueError, match=said):
            detector(source)


def test_only_some_classes(constant_model):
    path = constant_model([[0, 0, 32, 32], [40, 10, 60, 20], [0, 40, 9, 60]], [[0.9, 0], [0, 0.5], [0.3, 0]])
    assert RTMDetector(path, classes=['cat'], max_per_img=1).predict(image()).names == ['cat']
    assert RTMDetector(path, classes=['dog'], max_per_img=1).predict(image()).names == ['dog'], 'before the limit'
    assert RTMDetector(path, classes=['1', 'cat']).predict(image()).names == ['cat', 'dog', 'cat']
    with pytest.raises(ValueError, match="model's 2 classes, got 'cow'; the nearest: cat, dog"):
        RTMDetector(path, classes=['cow'])
    with pytest.raises(ValueError, match='classes must be a list of names'):
        RTMDetector(path, classes='cat')
