"""`Detections`: selection, drawing, crops and conversions."""

import sys

import cv2
import numpy as np
import pytest

from rtmdet_runtime import Detections

CLASSES = ('cat', 'dog', 'bird')
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), CLASSES)


@pytest.fixture
def found() -> Detections:
    boxes = np.array([[10, 5, 30.4, 25], [0, 0, 8, 8], [90, 60, 120, 90]], np.float32)
    image = np.arange(64 * 96 * 3, dtype=np.uint32).reshape(64, 96, 3).astype(np.uint8)
    return Detections(boxes, np.array([0.9, 0.5, 0.3], np.float32), np.array([1, 0, 1]), CLASSES, 'a.jpg', image)


def test_boxes_are_selected_by_number_slice_mask_list_and_name(found):
    for index, scores in (
        (0, [0.9]),
        (-1, [0.3]),
        (np.int64(1), [0.5]),
        (slice(1, None), [0.5, 0.3]),
        (found.scores > 0.4, [0.9, 0.5]),
        ([2, 0], [0.3, 0.9]),
        ([True, False, True], [0.9, 0.3]),
        ([], []),
        ('dog', [0.9, 0.3]),
        ('bird', []),
        (('cat', 'bird'), [0.5]),
        (['cat', 'dog'], [0.9, 0.5, 0.3]),
    ):
        part = found[index]
        assert part.scores.tolist() == pytest.approx(scores) and len(part.boxes) == len(part.labels) == len(scores)
        assert (part.classes, part.source, part.image is found.image) == (CLASSES, 'a.jpg', True)
    assert [box.names for box in found] == [['dog'], ['cat'], ['dog']]
    assert found.above(0.5).names == ['dog'] and len(found[NOTHING.labels]) == 0


def test_what_does_not_exist_can_not_be_selected(found):
    with pytest.raises(IndexError, match='only class names or only numbers'):
        found[['bird s', 1]]
    with pytest.raises(IndexError, match='index must be below 3, the number of boxes, got 3'):
        found[3]
    with pytest.raises(ValueError, match="class must be one of the model's 3 classes, got 'bird s'; the nearest: bird"):
        found['bird s']


def test_it_is_readable(found):
    assert repr(found) == 'Detections(2 dog, 1 cat; scores 0.30 to 0.90; a.jpg)'
    assert repr(NOTHING) == 'Detections(nothing)'
    without_names = Detections(found.boxes, found.scores, found.labels)
    assert repr(without_names[0]) == 'Detections(1 class 1; score 0.90)'


def test_crops_are_the_pixels_in_the_boxes(found):
    first, second, outside = found.crops()
    np.testing.assert_array_equal(first, found.image[5:25, 10:31])
    assert second.shape == (8, 8, 3) and outside.shape == (4, 6, 3) and NOTHING.classes == CLASSES
    beyond = Detections(np.array([[200, 200, 300, 300]], np.float32), *(a[:1] for a in (found.scores, found.labels)))
    assert [crop.shape for crop in Detections(**{**vars(beyond), 'image': found.image}).crops()] == [(1, 1, 3)]


def test_boxes_are_clipped_to_the_image(found):
    """The third box is beside the lower right corner, the fourth outside."""
    boxes = np.vstack([found.boxes, [[100, 10, 120, 30]]]).astype(np.float32)
    more = Detections(boxes, np.ones(4, np.float32), np.arange(4) % 3, CLASSES, image=found.image)
    assert more.clipped().boxes[2].tolist() == [90, 60, 96, 64] and more.clipped().labels.tolist() == [0, 1, 2]


def test_an_image_that_is_not_kept_is_read_again(found, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), found.image)
    read = Detections(found.boxes, found.scores, found.labels, CLASSES, str(tmp_path / 'a.png'))
    np.testing.assert_array_equal(read.plot(), found.plot())
    assert (read.plot() != found.image).any()
    with pytest.raises(ValueError, match='got Detections without image and source'):
        NOTHING.plot()


def test_plain_values(found):
    values = found[:1].to_dict()
    assert values == dict(image='a.jpg', boxes=[[10.0, 5.0, 30.4, 25.0]], scores=[0.9], classes=['dog'])
    frame = Detections(found.boxes, found.scores, found.labels, CLASSES, 'a.mp4', found.image, 12, 0.48)
    assert (frame.to_dict()['frame'], frame.to_dict()['time']) == (12, 0.48) and 'a.mp4, frame 12)' in repr(frame)
    assert NOTHING.to_dict() == dict(image='', boxes=[], scores=[], classes=[])


def test_coco_results(found):
    first = found.to_coco(7)[0]
    assert first == dict(
        image_id=7, category_id=2, bbox=pytest.approx([10, 5, 20.4, 20]), score=pytest.approx(0.9, abs=1e-6)
    )
    assert [result['category_id'] for result in found.to_coco(category_ids=[16, None, 3])] == [16]
    assert NOTHING.to_coco() == []


def test_supervision(found):
    supervision = pytest.importorskip('supervision', reason='supervision is not installed')
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Detections) and len(theirs) == 3
    np.testing.assert_array_equal(theirs.xyxy, found.boxes)
    assert theirs.data['class_name'].tolist() == found.names and theirs.class_id.tolist() == [1, 0, 1]
    assert len(NOTHING.to_supervision()) == 0 and len(theirs[theirs.confidence > 0.4]) == 2


def test_pandas(found):
    pytest.importorskip('pandas', reason='pandas is not installed')
    table = found.to_pandas()
    assert list(table.columns) == ['x1', 'y1', 'x2', 'y2', 'score', 'label', 'name']
    assert table.name.tolist() == ['dog', 'cat', 'dog'] and table.x2[0] == pytest.approx(30.4)
    assert len(NOTHING.to_pandas()) == 0


@pytest.mark.parametrize('package', ['supervision', 'pandas'])
def test_optional_packages_are_named(found, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'to_{package}\(\) needs {package}, .* pip install ".\[results\]"'):
        getattr(found, f'to_{package}')()
