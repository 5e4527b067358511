"""Write a video with PyAV, with the size and the times of its source, without sound."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

from ..atomic_files import unfinished
from ..image import Image
from ..messages import needed_by
from ..output import check_output
from ..sources.item import Video
from .targets import Inputs

with needed_by('writing a video'):
    import av
    import av.container

ENDINGS = ('.mp4', '.mov', '.m4v', '.mkv')
"""Endings of videos that are kept; other videos become .mp4."""
MARK = 'Drawn by rtmdet.'
"""Comment in each file that `video_file` writes. Only files with this comment are replaced."""
CODECS = ('libx264', 'mpeg4')
"""Codecs, the first that this FFmpeg has is used."""
FINEST = 65535
"""Maximum number of time units per second of MPEG-4."""
BITS = 0.25
"""Bits per pixel of a frame in MPEG-4, which has no setting for a constant quality."""


def with_video_ending(output: Path) -> Path:
    """Return a path with an ending that `video_file` can write."""
    return output if output.suffix.lower() in ENDINGS else output.with_suffix('.mp4')


def check_video(path: Path, inputs: Inputs, source: str = '') -> None:
    """Check that a video can be written without replacing an input or a file that `video_file` did not write.

    Raises:
        ValueError: if it would.
        OSError: see `check_output`.
    """
    inputs.check_no_input(path, source)
    check_output(path, inputs.files, (path.suffix,))
    if path.exists() and comment(path) != MARK:
        raise ValueError(f'{path} would replace a file that rtmdet did not write; choose another name, or remove it')


def comment(path: Path) -> str | None:
    """Return the comment in a video; None if there is none, or it isn't a video."""
    try:
        with av.open(str(path), options={'protocol_whitelist': 'file'}) as container:
            return next((text for name, text in container.metadata.items() if name.lower() == 'comment'), None)
    except av.FFmpegError:
        return None


@contextlib.contextmanager
def video_file(path: Path, source: Video) -> Iterator[Callable[[Image, int], None]]:
    """Give a function that appends frames to a video, which appears at the end, or not at all after an error.

    Args:
        path: file to write, of one of `ENDINGS`.
        source: the video that the frames are from.

    Returns:
        A function that takes a frame, BGR, uint8, (H, W, 3), and its time in units of `source.time_base`.

    Raises:
        OSError: if the file can't be written.
        ValueError: if FFmpeg can't encode a frame.
    """
    unit = source.time_base if source.time_base.denominator <= FINEST else Fraction(1, 60000)
    with unfinished(path) as (file,), contextlib.ExitStack() as stack:
        container = stack.enter_context(av.open(str(file), 'w'))
        container.metadata['comment'] = MARK
        opened: list[av.VideoStream] = []
        start, last = 0, -1

        def append(image: Image, pts: int) -> None:
            nonlocal start, last
            frame = av.VideoFrame.from_ndarray(image, format='bgr24')
            if not opened:  # the first frame has the size
                opened.append(_open_stream(path, container, frame, source.rate, unit))
                start = pts
            (stream,) = opened
            last = max(round((pts - start) * source.time_base / unit), last + 1)
            frame = frame.reformat(stream.width, stream.height)  # a stream may change its size
            frame.pts, frame.time_base = last, unit
            with _naming(path):
                container.mux(stream.encode(frame))

        yield append
        for stream in opened:
            with _naming(path):
                container.mux(stream.encode())


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn FFmpeg's own errors, but not those of the file system, into a `ValueError`."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise ValueError(f'{path} can not be written by FFmpeg: {error.strerror}') from None


def _open_stream(
    path: Path, container: av.container.OutputContainer, frame: av.VideoFrame, rate: Fraction, unit: Fraction
) -> av.VideoStream:
    """Return a stream of the first of `CODECS` that opens.

    Raises:
        ValueError: if none does.
    """
    even = frame.width % 2 == frame.height % 2 == 0
    for name in CODECS:
        settings = dict(crf='20', preset='veryfast') if name == 'libx264' else {}
        # Only the first of these formats has sides of any length in H.264.
        pix_fmt = 'yuv444p' if name == 'libx264' and not even else 'yuv420p'
        bit_rate = 0 if name == 'libx264' else int(BITS * frame.width * frame.height * rate)

        def configure(codec: av.VideoCodecContext, pix_fmt: str = pix_fmt, bit_rate: int = bit_rate) -> None:
            codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, pix_fmt
            codec.time_base, codec.bit_rate = unit, bit_rate

        try:
            trial = av.CodecContext.create(name, 'w')
            configure(trial)
            trial.open()  # a stream opens its codec with the first frame, when it's too late for another one
            stream = container.add_stream(name, rate=rate.limit_denominator(FINEST), options=settings)
        except (av.FFmpegError, ValueError):  # this FFmpeg, this kind of file or this size doesn't work with the codec
            continue
        configure(stream.codec_context)
        return stream
    raise ValueError(
        f'{path}: FFmpeg must have one of the codecs {", ".join(CODECS)} for {frame.width} x {frame.height} pixels, '
        'got neither'
    )
