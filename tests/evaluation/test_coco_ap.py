"""AP: hand-made cases, and the numbers of mmdet's metric; everything about one dataset in one object."""

import json
import math
from dataclasses import astuple

import numpy as np
import pytest
import torch
from detection_lists import NAMES, arrays_of, found_of, random_lists, truth_of
from mmdet.evaluation.metrics import coco_metric
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rtmdet_plugin.datasets.coco_metric import RTMCocoMetric
from rtmdet_plugin.evaluation.boxes import boxes_of
from rtmdet_plugin.evaluation.coco_ap import coco_ap
from rtmdet_plugin.evaluation.evaluation import evaluate_detections
from rtmdet_plugin.evaluation.summary import summary
from rtmdet_runtime.masks import Masks

CAT = (0, 'cat', (0, 0, 10, 10))


def test_nothing():
    for detections in ([], [(*CAT, 0.5)]):
        ap = coco_ap(*arrays_of([], detections), 3)
        assert all(map(math.isnan, [ap.ap, ap.ap50, ap.small, ap.ar, *ap.ap_of_class, *ap.ap50_of_class]))
        assert len(ap.ap_of_class) == len(ap.ap50_of_class) == 3
    ap = coco_ap(*arrays_of([CAT], []), 3)
    assert (ap.ap, ap.ap50, ap.small, ap.ar, ap.ap_of_class[0]) == (0, 0, 0, 0, 0)
    assert math.isnan(ap.medium) and math.isnan(ap.ap_of_class[1])


def test_a_class_without_objects_is_not_averaged():
    """The box of the cat has an IoU of 0.8: correct at 7 of 10 thresholds."""
    detections = [(0, 'cat', (0, 0, 10, 8), 0.9), (0, 'cow', (0, 0, 10, 10), 0.9), (1, 'dog', (0, 0, 40, 40), 0.9)]
    ap = coco_ap(*arrays_of([CAT, (1, 'dog', (0, 0, 40, 40))], detections), 3)
    assert (ap.ap, ap.ap50, ap.ap75) == pytest.approx((0.85, 1, 1))
    assert (ap.small, ap.medium, ap.ar) == pytest.approx((0.7, 1, 0.85))
    assert ap.ap_of_class == pytest.approx((0.7, 1, math.nan), nan_ok=True)
    assert ap.ap50_of_class == pytest.approx((1, 1, math.nan), nan_ok=True)


def rhombus(entry: dict) -> list[list[float]]:
    """Return the polygon between the middles of the sides of an entry's box."""
    x, y, width, height = entry['bbox']
    return [[x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height, x, y + height / 2]]


def uncompressed(entry: dict) -> dict:
    """Return the mask of `rhombus` as run lengths, in an image of 200 x 200 pixels."""
    mask = coco_mask.decode(coco_mask.frPyObjects(rhombus(entry), 200, 200))[..., 0].astype(bool)
    return dict(size=[200, 200], counts=Masks.from_arrays(mask[None]).runs[0].tolist())


@pytest.fixture
def stats_of_mmdet(monkeypatch) -> list[np.ndarray]:
    """List that gets the numbers of mmdet's metric before it rounds them."""
    found = []

    class Recorder(coco_metric.COCOeval):
        def summarize(self) -> None:
            super().summarize()
            found.append(self.stats)

    monkeypatch.setattr(coco_metric, 'COCOeval', Recorder)
    return found


def test_the_numbers_of_mmdet(tmp_path, stats_of_mmdet):
    """Unsorted ids of images, equal scores, crowds, and more than 100 boxes of a class in an image; masks of them."""
    truth, found = random_lists(3, images=40)
    found += found_of(*((0, 'cat', (0, 0, 1, 1 + i), 0.99) for i in range(120)))
    found += [dict(item, score=0.01) for item in truth['annotations'] if item['image_id'] == 0]
    ids = {image['id']: (7 * image['id']) % 41 for image in truth['images']}
    truth['images'] = [dict(id=i, width=200, height=200, file_name=f'{i}.png') for i in ids.values()]
    for entries in (truth['annotations'], found):
        entries[:] = [dict(entry, image_id=ids[entry['image_id']]) for entry in entries]
    for i, annotation in enumerate(truth['annotations'], 1):
        annotation.update(id=i, area=annotation['bbox'][2] * annotation['bbox'][3] * 0.8)
        annotation['segmentation'] = uncompressed(annotation) if annotation['iscrowd'] else rhombus(annotation)
    for entry in found:
        entry['segmentation'] = coco_mask.frPyObjects(rhombus(entry), 200, 200)[0]
    (tmp_path / 'ann.json').write_text(json.dumps(truth))
    metric = RTMCocoMetric(  # as in the configs
        ann_file=str(tmp_path / 'ann.json'), metric=['bbox', 'segm'], proposal_nums=(100, 1, 10)
    )
    metric.dataset_meta = dict(classes=NAMES)
    for image_id in ids.values():
        mine = [entry for entry in found if entry['image_id'] == image_id]
        xywh = torch.tensor([entry['bbox'] for entry in mine], dtype=torch.float64).reshape(-1, 4)
        prediction = dict(
            bboxes=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
            scores=torch.tensor([entry['score'] for entry in mine], dtype=torch.float64),
            labels=torch.tensor([entry['category_id'] // 7 for entry in mine], dtype=torch.long),
            masks=[dict(entry['segmentation']) for entry in mine],
        )
        metric.process({}, [dict(pred_instances=prediction, img_id=image_id, ori_shape=(200, 200))])
    metric.compute_metrics(metric.results)
    result = evaluate_detections(truth, found, masks=True)
    for ap, expected in zip((result.ap, result.mask_ap), stats_of_mmdet, strict=True):
        numbers = (ap.ap, ap.ap50, ap.ap75, ap.small, ap.medium, ap.large, ap.ar)
        assert numbers == pytest.approx([*expected[:6], expected[8]], abs=1e-9)
        assert 0.05 < ap.ap < ap.ap50 < 0.9
        means = np.nanmean([ap.ap_of_class, ap.ap50_of_class], axis=1)
        assert means == pytest.approx([ap.ap, ap.ap50])
    numbers = summary(result)
    assert (numbers['mask_AP'], numbers['mask_AR']) == (result.mask_ap.ap, result.mask_ap.ar) != (result.ap.ap, 0)
    assert [row['mask_AP50'] for row in numbers['classes'][:2]] == list(result.mask_ap.ap50_of_class[:2])
    assert evaluate_detections(truth, [], masks=True).mask_ap.ap == 0


def test_faster_coco_eval_has_the_numbers_of_pycocotools(monkeypatch):
    faster = pytest.importorskip('faster_coco_eval', reason='faster-coco-eval is not installed')
    truth, found = random_lists(5, images=40)
    for entry in truth['annotations'] + found:
        entry['segmentation'] = rhombus(entry)
    truth['images'] = [dict(image, width=200, height=200) for image in truth['images']]
    boxes = [boxes_of(entries, truth, masks=True) for entries in (truth['annotations'], found)]
    numbers = []
    for coco, evaluator in ((COCO, COCOeval), (faster.COCO, faster.COCOeval_faster)):
        monkeypatch.setattr('rtmdet_plugin.evaluation.coco_ap.COCO', coco)
        monkeypatch.setattr('rtmdet_plugin.evaluation.coco_ap.COCOeval', evaluator)
        numbers.append([np.hstack(astuple(coco_ap(*boxes, 3, masks))) for masks in (False, True)])
    np.testing.assert_allclose(*numbers, atol=1e-9)
    assert numbers[0][0][0] != numbers[0][1][0]


def test_everything_in_one_object():
    """Two cats, of which the second box of the first one is a duplicate; the dog is missed; a crowd of cows."""
    truth = truth_of(CAT, (1, *CAT[1:]), (1, 'dog', (0, 0, 50, 50)), (2, 'cow', (0, 0, 90, 90), True))
    found = found_of(
        (*CAT, 0.8), (*CAT, 0.7), (1, *CAT[1:], 0.6), (2, 'cow', (0, 0, 5, 5), 0.9), (0, 'dog', (50, 50, 9, 9), 0.3)
    )
    result = evaluate_detections(truth, found)
    assert result.classes == NAMES and result.truth is truth and result.found is found
    assert result.images_of_class.tolist() == [2, 1, 0]
    assert [made.objects for made in (*result.curve_of_class, result.curve)] == [2, 1, 0, 3]
    assert result.best == result.curve.at(0.4) and result.best.f1 == pytest.approx(2 / 3)
    assert [made.best() is None for made in result.curve_of_class] == [False, True, True]
    assert result.confusion(0.5)[:2].tolist() == [[2, 0, 0, 0], [0, 0, 0, 1]]
    assert result.errors.ap50 == pytest.approx(result.ap.ap50)
    assert result.matches.correct.tolist() == [True, False, True, False, False]
    with pytest.raises(ValueError, match='iou_thr must be above 0 and at most 1, got 0'):
        evaluate_detections(truth, found, iou_thr=0)


def test_everything_of_nothing():
    result = evaluate_detections(truth_of(), [])
    assert result.best is None and math.isnan(result.ap.ap) and result.images_of_class.tolist() == [0, 0, 0]
    assert result.confusion(0.5).sum() == 0
