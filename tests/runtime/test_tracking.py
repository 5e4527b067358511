"""Objects keep their ids through a video."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtmdet_runtime import Detections, RTMDetector
from rtmdet_runtime.sources.item import Item, Problem, Video
from rtmdet_runtime.stream import find
from rtmdet_runtime.tracking import LOW, tracked, with_low_scores

pytest.importorskip('trackers', reason='trackers is not installed')

BLANK = np.zeros((100, 400, 3), np.uint8)


def video() -> Video:
    return Video(rate=Fraction(25), time_base=Fraction(1, 25))


def frames(count: int, of: Video | None, scores=(0.9, 0.8), start: int = 0):
    """Two objects of 30 pixels, one above the other, that move 5 pixels to the right per frame."""
    for number in range(start, start + count):
        x = 5 * number
        boxes = np.array([[x, 10, x + 30, 40], [x, 60, x + 30, 90]], np.float32)
        item = Item(BLANK, 'v.mp4', Path('v.mp4'), None, of, number, number)
        time = None if of is None else number / 25
        yield item, Detections(boxes, np.array(scores, np.float32), np.zeros(2, np.int64), ('cat',), time=time)


def ids(results) -> list[list[int]]:
    return [found.ids.tolist() for _, found in results]


def test_objects_keep_their_ids_from_the_second_frame_on():
    found = list(tracked(frames(6, video()), 0.25))
    assert ids(found) == [[], *[[0, 1]] * 5]
    assert all(len(detections) == len(detections.ids) for _, detections in found)
    assert found[3][1].boxes[:, 1].tolist() == [10, 60], 'best first, as without tracking'


def test_a_low_score_continues_a_track_and_starts_none():
    def scores_change():
        of = video()
        yield from frames(3, of)
        yield from frames(3, of, scores=(0.9, 0.15), start=3)

    assert ids(tracked(scores_change(), 0.25)) == [[], *[[0, 1]] * 5]
    assert ids(tracked(frames(4, video(), scores=(0.9, 0.15)), 0.25)) == [[], [0], [0], [0]]


def test_each_video_has_its_own_tracks_and_problems_pass():
    def two_videos():
        yield from frames(3, video())
        yield problem
        yield from frames(3, video())

    problem = Problem(ValueError('bad'))
    first, second = [], []
    results = list(tracked(two_videos(), 0.25))
    assert results[3] is problem
    first, second = results[:3], results[4:]
    assert ids(first) == ids(second) == [[], [0, 1], [0, 1]]


def test_images_count_as_frames_of_one_video():
    assert ids(tracked(frames(3, None), 0.25)) == [[], [0, 1], [0, 1]]


def test_nothing_found():
    empty = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
    item = Item(BLANK, 'v.mp4', Path('v.mp4'), None, video(), 0, 0)
    (found,) = (found for _, found in tracked((pair for pair in [(item, empty)]), 0.25))
    assert len(found) == 0 and found.ids.tolist() == []


def test_the_detector_finds_low_scores_for_the_tracks_only(constant_model):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    detector = RTMDetector(constant_model([[0, 0, 32, 32], [40, 0, 60, 20]], [[0.9, 0], [0.15, 0]]), score_thr=0.25)
    lower = with_low_scores(detector)
    assert lower.info.score_thr == pytest.approx(0.25 * LOW) and detector.info.score_thr == 0.25
    assert (len(lower.predict(BLANK)), len(detector.predict(BLANK))) == (2, 1)
    items = (Item(BLANK, 'v.mp4', Path('v.mp4'), None, None, None, None) for _ in range(3))
    assert ids(find(detector, items, 1, track=True)) == [[], [0], [0]]


def test_ids_reach_every_conversion():
    ((_, found),) = list(tracked(frames(2, video()), 0.25))[1:]
    assert found.to_dict()['ids'] == [0, 1] and found[1].ids.tolist() == [1]
    assert [result['track_id'] for result in found.to_coco()] == [0, 1]
    assert found.to_supervision().tracker_id.tolist() == [0, 1]
    assert 'ids' not in Detections(found.boxes, found.scores, found.labels).to_dict()
