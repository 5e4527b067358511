"""Write small videos for tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path,
    images: Sequence[np.ndarray],
    pts: Sequence[int] | None = None,
    codec: str = 'ffv1',
    pix_fmt: str = 'bgr0',
    unit: Fraction = Fraction(1, 1000),
) -> Path:
    """Write images (BGR, uint8) as a video, lossless by default.

    Args:
        path: file to write.
        images: its frames.
        pts: times in `unit`; 25 frames per second by default.
        codec: codec of FFmpeg.
        pix_fmt: pixel format of the codec.
        unit: unit of `pts` in seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = unit
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format='bgr24').reformat(format=pix_fmt)
            frame.pts = round(number / 25 / unit) if pts is None else pts[number]
            frame.time_base = unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_back(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Return the frames of a video, BGR, and their times in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format='bgr24') for frame in frames], [frame.time for frame in frames]
