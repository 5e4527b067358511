"""Follow objects through the frames of a video, with ByteTrack of the package `trackers`."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .info import NMS_FORMS
from .messages import needed_by
from .sources.item import Problem

if TYPE_CHECKING:
    from trackers import ByteTrackTracker

    from .detections import Detections
    from .detector import RTMDetector
    from .stream import Result

LOW = 0.4
"""Boxes with a score between this share of the score threshold and the threshold continue a track, but don't start
one: ByteTrack follows objects through frames in which they are partly hidden."""


def with_low_scores(detector: RTMDetector) -> RTMDetector:
    """Return a detector that also finds the boxes that only continue a track; itself if NMS is part of its graph."""
    if detector.info.form in NMS_FORMS:
        return detector
    lower = copy.copy(detector)
    lower.info = replace(detector.info, score_thr=LOW * detector.info.score_thr)
    return lower


def tracked(
    results: Generator[Result | Problem, None, None], score_thr: float
) -> Generator[Result | Problem, None, None]:
    """Yield each image with the boxes that belong to a track, and their ids; each problem as it is.

    Each video has its own tracks, whose ids start at 0. Consecutive images of other sources count as frames of one
    video. The first box of an object has no id yet, so it is dropped.

    Args:
        results: images with the detections of `with_low_scores`.
        score_thr: score from which a box starts a track.

    Raises:
        ImportError: if `trackers` isn't installed.
    """
    with needed_by('tracking'):
        from trackers import ByteTrackTracker
    video, tracker = None, None
    with contextlib.closing(results):
        for result in results:
            if isinstance(result, Problem):
                yield result
                continue
            item, found = result
            if tracker is None or item.video is not video:
                video = item.video
                tracker = ByteTrackTracker(track_activation_threshold=score_thr, high_conf_det_threshold=score_thr)
            yield item, with_ids(found, tracker)


def with_ids(found: Detections, tracker: ByteTrackTracker) -> Detections:
    """Return the boxes of the next frame that belong to a track, by descending score, with their ids."""
    import supervision

    boxes = supervision.Detections(
        found.boxes.reshape(-1, 4), confidence=found.scores, data=dict(place=np.arange(len(found)))
    )
    followed = tracker.update(boxes, timestamp=found.time)
    if not len(followed):
        return replace(found[:0], ids=np.empty(0, np.int64))
    ids = np.full(len(found), -1, np.int64)
    ids[np.asarray(followed.data['place'])] = np.asarray(followed.tracker_id)
    return replace(found, ids=ids)[ids >= 0]
