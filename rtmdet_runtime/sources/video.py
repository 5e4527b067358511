"""Read the frames of a video file or a live stream with PyAV, in the orientation in which they are shown."""

from __future__ import annotations

import errno
import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from ..image_size import max_pixels
from ..messages import needed_by
from .item import Item, Problem, Video
from .newest import newest

with needed_by('reading a video'):
    import av
    import av.container

TIMEOUT = 20
"""Seconds without data after which a live stream has ended."""
NO_DATA = (errno.ETIMEDOUT, errno.EIO)
"""Numbers of FFmpeg's errors after `TIMEOUT`; the second is that of UDP."""
CONTAINERS = '3g2,3gp,asf,avi,flv,m4v,matroska,mj2,mov,mp4,mpeg,mpegts,mpegvideo,ogg,webm,yuv4mpegpipe'
"""FFmpeg's names of the formats of files that are read."""
ENDED_EARLY = 0.9
"""Part of the length in the header of a video below which it is incomplete; its sound may be longer."""


def read_video(file: str | IO[bytes], source: str, output: Path, every: int) -> Generator[Item | Problem, None, None]:
    """Return a generator of every N-th frame of a video, and at the end a `Problem` if frames are damaged or missing.

    Frames of a live stream that come faster than they are used are skipped, see `newest`.

    Args:
        file: path of a file, an open file, or address of a live stream.
        source: see `Item`.
        output: see `Item`.
        every: N.
    """
    if isinstance(file, str) and '://' in file:
        return newest(_read(file, live_options(file), True, source, output, every))
    # A file from the web may be a playlist, whose entries could be other files or addresses.
    options = {'protocol_whitelist': 'file', 'format_whitelist': CONTAINERS}
    return _read(file, options, False, source, output, every)


def live_options(address: str) -> dict[str, str]:
    """Return FFmpeg's options for a live stream.

    The time limit is FFmpeg's, because PyAV's calls Python while it waits, and Python crashes if it ends meanwhile.
    """
    limit = 'rw_timeout' if address.startswith('rtmp') else 'timeout'  # in RTMP, the other name makes it a server
    return {'rtsp_transport': 'tcp', limit: str(round(1e6 * TIMEOUT))}


def _read(
    file: str | IO[bytes], options: dict[str, str], live: bool, source: str, output: Path, every: int
) -> Generator[Item | Problem, None, None]:
    start = time.monotonic()
    try:
        container = av.open(file, 'r', options=options)
    except av.FFmpegError as error:
        late = live and time.monotonic() - start > TIMEOUT
        reason = f'no video for {TIMEOUT} s' if late else f'an error: {error.strerror}'
        yield Problem(ValueError(f'{source} must be a video that FFmpeg can read, got {reason}'))
        return
    with container:
        if not container.streams.video:
            yield Problem(ValueError(f'{source} must be a video, got a file without images'))
            return
        stream = container.streams.video[0]
        if stream.width * stream.height > max_pixels():
            yield Problem(
                ValueError(f'{source} must have at most {max_pixels():,} pixels, got {stream.width} x {stream.height}')
            )
            return
        rate = stream.average_rate or Fraction(25)
        video = Video(rate, stream.time_base or 1 / rate, live)
        yield from _read_stream(container, stream, video, source, output, every)


def _read_stream(
    container: av.container.InputContainer, stream: av.VideoStream, video: Video, source: str, output: Path, every: int
) -> Iterator[Item | Problem]:
    stream.thread_type = 'AUTO'
    step = max(1, round(1 / (video.rate * video.time_base)))
    number, damaged, pts = 0, 0, -step
    try:
        for frame in _decoded(container, stream):
            if frame is None or frame.is_corrupt:
                damaged += 1
                continue
            # Some files have no timestamps, and some damaged ones go back in time, which no encoder takes.
            pts = pts + step if frame.pts is None else max(frame.pts, pts + 1)
            if number % every == 0:
                try:
                    image = frame.to_ndarray(format='bgr24')
                except (av.FFmpegError, ValueError):  # its size or pixel format can't be converted
                    damaged += 1
                    continue
                if frame.rotation:
                    image = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
                yield Item(image, source, output, None, video, number, pts)
            number += 1
    except av.FFmpegError as error:  # the rest can't be read
        if video.live:
            reason = f'no data for {TIMEOUT} s' if error.errno in NO_DATA else error.strerror
            yield Problem(ValueError(f'{source} has ended after {number} frames: {reason}'))
            return
        damaged += 1
    if not number:
        yield Problem(
            ValueError(f'{source} must be a video with at least one frame, got none, and {damaged} damaged ones')
        )
        return
    if damaged:
        yield Problem(ValueError(f'{source}: {damaged} damaged frames were skipped, {number} were read'))
    end, length = float((pts + step) * video.time_base), _length(container, stream)
    if end < ENDED_EARLY * length:
        yield Problem(
            ValueError(f'{source} ends after {end:.1f} of {length:.1f} s; its first {number} frames were read')
        )


def _decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame | None]:
    """Yield the frames of a stream, None for one that can't be decoded.

    Raises:
        av.FFmpegError: if the rest can't be read.
    """
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            yield None


def _length(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Return the time at which the video ends according to its header, in seconds; 0 if it isn't known."""
    if stream.duration is not None and stream.time_base is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return (container.duration or 0) / av.time_base
