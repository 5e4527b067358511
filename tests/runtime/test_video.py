"""Videos: frames are exact, times and sizes are kept, damage is counted."""

import contextlib
import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

av = pytest.importorskip('av', reason='av is not installed')

from videos import read_back, write_video  # noqa: E402

from rtmdet_runtime import Detections  # noqa: E402
from rtmdet_runtime.image import Image  # noqa: E402
from rtmdet_runtime.sources import read_sources  # noqa: E402
from rtmdet_runtime.sources.item import Item, Problem, Video  # noqa: E402
from rtmdet_runtime.sources.video import read_video  # noqa: E402
from rtmdet_runtime.writers import video  # noqa: E402
from rtmdet_runtime.writers.drawn import DrawnFiles  # noqa: E402
from rtmdet_runtime.writers.targets import Inputs  # noqa: E402


@pytest.fixture
def images() -> list[Image]:
    """Ten noisy images, each of its own brightness."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 25 * (n + 1), (64, 96, 3), np.uint8) for n in range(10)]


def read(path: Path, every: int = 1) -> tuple[list[Item], list[str]]:
    entries = list(read_sources([path], every))
    return [e for e in entries if isinstance(e, Item)], [e.line for e in entries if isinstance(e, Problem)]


def test_frames_of_a_lossless_video_are_exact(images, tmp_path):
    items, problems = read(write_video(tmp_path / 'a.mkv', images))
    assert problems == [] and len(items) == 10
    for number, (item, image) in enumerate(zip(items, images, strict=True)):
        np.testing.assert_array_equal(item.image, image)
        assert (item.source, item.output, item.frame) == (str(tmp_path / 'a.mkv'), Path('a.mkv'), number)
        assert item.pts * item.video.time_base == Fraction(number, 25) and item.video is items[0].video


def test_every_third_frame(images, tmp_path):
    items, _ = read(write_video(tmp_path / 'a.mkv', images), every=3)
    assert [item.frame for item in items] == [0, 3, 6, 9]
    np.testing.assert_array_equal(items[2].image, images[6])


def test_a_rotated_video_is_read_upright(tmp_path):
    """As phones write it: the frames lie on their side, and the header has the matrix of a quarter turn clockwise."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :32] = 255
    path = write_video(tmp_path / 'a.mp4', [image], codec='mpeg4', pix_fmt='yuv420p')
    content = bytearray(path.read_bytes())
    matrix = content.index(b'tkhd') + 44
    content[matrix : matrix + 36] = struct.pack('>9i', 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    path.write_bytes(content)
    (item,), _ = read(path)
    assert item.image.shape == (96, 64, 3) and item.image[:32, 32:].mean() > 240 > 10 > item.image[32:].mean()


def test_a_video_that_ends_in_the_middle(images, tmp_path):
    path = write_video(tmp_path / 'a.mkv', images)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    items, problems = read(path)
    assert 3 <= len(items) <= 6
    assert any(f'ends after {len(items) / 25:.1f} of 0.4 s; its first {len(items)} frames' in line for line in problems)


def test_damaged_frames_are_counted(images, tmp_path):
    smooth = cv2.GaussianBlur(images[-1], (0, 0), 2)  # in noise, any bytes are valid JPEG
    path = write_video(tmp_path / 'a.mkv', [smooth] * 10, codec='mjpeg', pix_fmt='yuvj420p')
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.pos]
    for number, (place, size) in enumerate(packets):
        content[place + size // 4 : place + size // 2] = bytes(size // 2 - size // 4)
        path.write_bytes(content)
        if number == 3:
            items, problems = read(path)
            assert [item.frame for item in items] == list(range(6))
            assert problems == [f'{path}: 4 damaged frames were skipped, 6 were read']
    assert read(path) == ([], [f'{path} must be a video with at least one frame, got none, and 10 damaged ones'])


def test_videos_that_are_none(images, tmp_path):
    (tmp_path / 'empty.mp4').touch()
    (tmp_path / 'text.mkv').write_text('no video')
    write_video(tmp_path / 'a.mp4', images, codec='mpeg4', pix_fmt='yuv420p')
    (tmp_path / 'cut.mp4').write_bytes((tmp_path / 'a.mp4').read_bytes()[:2000])  # without the index at its end
    with av.open(str(tmp_path / 'none.mkv'), 'w') as container:
        stream = container.add_stream('ffv1', rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, 'bgr0'
        container.start_encoding()
    with av.open(str(tmp_path / 'sound.mkv'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format='s16', layout='mono')
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    (tmp_path / 'list.mp4').write_text('ffconcat version 1.0\nfile a.mp4\n')  # could name any file
    for name, said in (
        ('empty', 'must be a video that FFmpeg can read'),
        ('text', 'must be a video that FFmpeg can read'),
        ('cut', 'must be a video that FFmpeg can read'),
        ('none', 'must be a video that FFmpeg can read'),
        ('sound', 'must be a video, got a file without images'),
        ('list', 'must be a video that FFmpeg can read'),
        ('absent', 'must be a video that FFmpeg can read, got an error: No such file'),
    ):
        (path,) = [*tmp_path.glob(f'{name}.*')] or [tmp_path / 'absent.mp4']
        items, problems = read(path)
        assert items == [] and len(problems) == 1 and f'{path} {said}' in problems[0], problems


def test_a_huge_video_is_refused(images, tmp_path, monkeypatch):
    monkeypatch.setenv('RTMDET_MAX_PIXELS', '1000')
    assert 'must have at most 1,000 pixels, got 96 x 64' in read(write_video(tmp_path / 'a.mkv', images))[1][0]


@pytest.mark.parametrize('codec', ['libx264', 'mpeg4'])
@pytest.mark.parametrize('size', [(64, 96), (63, 97)])
def test_written_videos_keep_size_and_varying_times(images, tmp_path, monkeypatch, codec, size):
    monkeypatch.setattr(video, 'CODECS', ('no_codec', codec))
    times = [0, 40, 80, 400, 440, 500, 501, 900, 940, 1000]
    with video.video_file(tmp_path / 'a.mp4', Video(Fraction(25), Fraction(1, 1000))) as append:
        for image, pts in zip(images, times, strict=True):
            append(np.full((*size, 3), image.mean(), np.uint8), pts + 7000)
    frames, seconds = read_back(tmp_path / 'a.mp4')
    assert [round(1000 * time) for time in seconds] == times
    assert all(frame.shape == (*size, 3) for frame in frames)
    assert np.abs([f.mean() - i.mean() for f, i in zip(frames, images, strict=True)]).max() < 6


def test_a_codec_that_does_not_open_is_replaced(images, tmp_path, monkeypatch):
    monkeypatch.setattr(video, 'CODECS', ('h263', 'libx264'))  # H.263 has only a few sizes
    with video.video_file(tmp_path / 'a.mp4', Video(Fraction(25), Fraction(1, 25))) as append:
        append(images[0], 0)
    assert len(read_back(tmp_path / 'a.mp4')[0]) == 1


def test_an_open_file_is_read_as_its_path(images, tmp_path):
    path = write_video(tmp_path / 'a.mkv', images)
    with open(path, 'rb') as file:
        assert len(list(read_video(file, 'a', Path('a.mkv'), 1))) == len(images)


def test_a_time_unit_that_mpeg4_does_not_have(images, tmp_path, monkeypatch):
    monkeypatch.setattr(video, 'CODECS', ('mpeg4',))
    with video.video_file(tmp_path / 'a.mp4', Video(Fraction(30000, 1001), Fraction(1, 90000))) as append:
        for number, image in enumerate(images):
            append(image, 3003 * number)
    np.testing.assert_allclose(read_back(tmp_path / 'a.mp4')[1], np.arange(10) * 1001 / 30000, atol=1e-4)


def test_a_video_appears_complete_or_not_at_all(images, tmp_path):
    with (
        contextlib.suppress(KeyboardInterrupt),
        video.video_file(tmp_path / 'a.mp4', Video(Fraction(25), Fraction(1, 25))) as append,
    ):
        append(images[0], 0)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('live', [False, True])
def test_only_a_live_video_is_kept_after_ctrl_c(images, tmp_path, live):
    writer = DrawnFiles(tmp_path, Inputs({}))
    item = Item(images[0], 'a.mp4', Path('a.mp4'), None, Video(Fraction(25), Fraction(1, 25), live))
    writer.write(item, Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)), item.output)
    writer.stop()
    assert [path.name for path in tmp_path.iterdir()] == ['a.mp4'] * live
    assert writer.removed == (None if live else tmp_path / 'a.mp4')
    assert not live or len(read_back(tmp_path / 'a.mp4')[0]) == 1


def test_only_our_own_videos_are_replaced(images, tmp_path):
    write_video(tmp_path / 'theirs.mkv', images)
    for ending in video.ENDINGS:
        with video.video_file(tmp_path / f'ours{ending}', Video(Fraction(25), Fraction(1, 25))) as append:
            append(images[0], 0)
        video.check_video(tmp_path / f'ours{ending}', Inputs({}))
    with pytest.raises(ValueError, match='theirs.mkv would replace a file that rtmdet did not write'):
        video.check_video(tmp_path / 'theirs.mkv', Inputs({}))
    assert video.with_video_ending(Path('a/b.avi')) == Path('a/b.mp4')


def test_a_codec_is_missing(images, tmp_path, monkeypatch):
    monkeypatch.setattr(video, 'CODECS', ('no_codec',))
    with (
        pytest.raises(ValueError, match='FFmpeg must have one of the codecs no_codec'),
        video.video_file(tmp_path / 'a.mp4', Video(Fraction(25), Fraction(1, 25))) as append,
    ):
        append(images[0], 0)
