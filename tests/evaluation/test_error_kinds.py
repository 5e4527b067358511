"""Kinds of errors: one hand-made error of each kind, and what it costs; AP50 is that of pycocotools."""

import numpy as np
import pytest
from detection_lists import arrays_of, random_lists
from hypothesis import given, settings
from hypothesis import strategies as st

from rtmdet_plugin.evaluation.boxes import boxes_of
from rtmdet_plugin.evaluation.coco_ap import coco_ap
from rtmdet_plugin.evaluation.error_kinds import KINDS, WRONG, ErrorKinds, error_kinds
from rtmdet_plugin.evaluation.matching import match

CAT = (0, 'cat', (0, 0, 10, 10))
DOG = (1, 'dog', (0, 0, 10, 10))


def errors_of(objects: list[tuple], detections: list[tuple]) -> ErrorKinds:
    arrays = arrays_of(objects, detections)
    return error_kinds(*arrays, match(*arrays))


def names(errors: ErrorKinds) -> list[str]:
    return [WRONG[kind] if kind >= 0 else '' for kind in errors.kind]


def gains(errors: ErrorKinds) -> dict[str, float]:
    """Return the gains that aren't 0."""
    return {name: round(gain, 9) for name, gain in errors.gain.items() if abs(gain) > 1e-12}


def test_nothing():
    for detections in ([], [(0, 'cat', (0, 0, 9, 9), 0.5)]):
        errors = errors_of([], detections)
        assert names(errors) == ['background'] * len(detections) and errors.missed.tolist() == []
        assert np.isnan(errors.ap50) and list(errors.gain) == list(KINDS) and np.isnan(list(errors.gain.values())).all()


def test_only_missed():
    """Half of the objects of a class are missed: without them, recall is twice as high. All of them: AP is 1."""
    errors = errors_of([CAT, (1, *CAT[1:]), DOG], [(*CAT, 0.9)])
    assert errors.ap50 == pytest.approx(51 / 101 / 2) and errors.missed.tolist() == [False, True, True]
    assert errors.gain['missed'] == pytest.approx(1 - 51 / 101 / 2)
    assert gains(errors).keys() == {'missed'}
    errors = errors_of([CAT, DOG], [(*CAT, 0.9), (2, *CAT[1:], 0.95)])  # without the dog, AP is 1/2 and 1
    assert errors.ap50 == 0.25 and gains(errors) == {'background': 0.25, 'missed': 0.5}


@pytest.mark.parametrize(
    ('wrong', 'kind', 'gain'),
    [
        ((0, 'cat', (0, 0, 10, 4), 0.95), 'localisation', 1 / 4),  # and the correct box with the lower score goes
        ((0, 'cat', (0, 0, 10, 8), 0.8), 'duplicate', 0),  # it comes last
        ((0, 'dog', (0, 0, 10, 10), 0.95), 'confusion', 1 / 4),
        ((0, 'dog', (0, 0, 10, 3), 0.95), 'both', 1 / 4),
        ((2, 'dog', (0, 0, 10, 10), 0.95), 'background', 1 / 4),
        ((0, 'dog', (0, 9.5, 10, 10), 0.95), 'background', 1 / 4),
    ],
)
def test_one_wrong_box(wrong, kind, gain):
    """Both objects are found; a wrong box before a correct one halves the precision of its class."""
    errors = errors_of([CAT, DOG], [(*CAT, 0.9), (*DOG, 0.9), wrong])
    assert names(errors) == ['', '', kind] and not errors.missed.any()
    assert errors.gain['missed'] == 0
    assert errors.ap50 == pytest.approx(1 - gain) and gains(errors) == pytest.approx({kind: gain} if gain else {})


def test_a_duplicate_before_another_object():
    """Precision at the second object is 2/3 with the duplicate, 1 without."""
    objects = [CAT, (1, *CAT[1:])]
    errors = errors_of(objects, [(*CAT, 0.9), (0, 'cat', (0, 0, 10, 9), 0.8), (1, *CAT[1:], 0.7)])
    assert names(errors) == ['', 'duplicate', '']
    assert gains(errors) == pytest.approx({'duplicate': 50 / 101 / 3})


def test_an_object_that_only_a_wrong_box_concerns_is_not_missed():
    for box, kind in (((0, 0, 10, 4), 'localisation'), ((0, 0, 10, 10), 'confusion')):
        errors = errors_of([CAT], [(0, 'cat' if kind == 'localisation' else 'dog', box, 0.5)])
        assert names(errors) == [kind] and errors.missed.tolist() == [False]
        assert gains(errors) == {kind: 1}
    errors = errors_of([(0, 'cow', (50, 50, 9, 9)), CAT], [(0, 'dog', (0, 0, 10, 10), 0.5)])
    assert errors.missed.tolist() == [True, False]
    errors = errors_of([CAT], [(0, 'dog', (0, 0, 10, 4), 0.5)])
    assert names(errors) == ['both'] and errors.missed.tolist() == [True]


def test_of_two_wrong_boxes_of_an_object_the_better_one_is_kept():
    """The other one would be wrong: precision 1/2 at the second cat, which comes last."""
    objects = [CAT, (1, *CAT[1:])]
    detections = [(0, 'dog', (0, 0, 10, 10), 0.9), (0, 'cow', (0, 0, 10, 10), 0.8), (1, *CAT[1:], 0.7)]
    assert gains(errors_of(objects, detections)) == pytest.approx({'confusion': 1 - 51 / 101})


def test_several_kinds_fit():
    """Localisation before confusion, confusion before duplicate."""
    objects = [CAT, (0, 'dog', (0, 0, 10, 9))]
    assert names(errors_of(objects, [(0, 'cow', (0, 0, 10, 10), 0.9)])) == ['confusion']
    detections = [(*CAT, 0.9), (0, 'cat', (0, 0, 10, 9.5), 0.8)]
    assert names(errors_of(objects, detections)) == ['', 'confusion']
    objects = [(0, 'cat', (0, 0, 10, 2)), (0, 'dog', (0, 0, 10, 10))]
    assert names(errors_of(objects, [(0, 'cat', (0, 0, 10, 10), 0.9)])) == ['localisation']


def test_crowds_are_no_objects():
    objects = [CAT, (1, 'cat', (0, 0, 50, 50), True)]
    errors = errors_of(objects, [(1, 'cat', (0, 0, 10, 10), 0.9), (*CAT, 0.8), (1, 'dog', (0, 0, 10, 10), 0.9)])
    assert names(errors) == ['', '', 'background'] and errors.ap50 == 1 and errors.missed.tolist() == [False, False]


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_ap50_and_gains(seed):
    truth, found = random_lists(seed, images=4)
    objects, detections = boxes_of(truth['annotations'], truth), boxes_of(found, truth)
    matches = match(objects, detections)
    errors = error_kinds(objects, detections, matches)
    assert errors.ap50 == pytest.approx(coco_ap(objects, detections, 3).ap50, abs=1e-12, nan_ok=True)
    assert ((errors.kind >= 0) == matches.wrong).all()
    assert not errors.missed[matches.found | objects.crowd].any()
    assert all(not gain < -1e-12 and not errors.ap50 + gain > 1 + 1e-12 for gain in errors.gain.values())
