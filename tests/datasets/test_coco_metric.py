"""Labels are matched to categories by name, whatever the order of labels, categories and ids."""

import itertools

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from pycocotools import mask as coco_mask

from rtmdet_plugin.datasets.coco import RTMCocoDataset
from rtmdet_plugin.datasets.coco_metric import RTMCocoMetric
from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.models.rle_masks import RLE, RLEMasks

CLASSES = ('square', 'bar', 'disc')


def evaluate(metric, dataset, wrong_class=None):
    """Score predictions that equal the ground truth; boxes of `wrong_class` are moved away from their objects."""
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        boxes = torch.tensor([i['bbox'] for i in info['instances']], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([i['bbox_label'] for i in info['instances']], dtype=torch.long)
        if wrong_class is not None:
            boxes[labels == dataset.metainfo['classes'].index(wrong_class)] += 40
        prediction = {'bboxes': boxes, 'scores': torch.full((len(boxes),), 0.9), 'labels': labels}
        sample = {
            'pred_instances': prediction,
            'img_id': info['img_id'],
            'ori_shape': (info['height'], info['width']),
            'instances': info['instances'],
        }
        metric.process({}, [sample])
    return metric.evaluate(size=len(dataset))


@pytest.mark.parametrize('metric', [RTMCocoMetric, CocoMetric])
def test_masks_in_run_length_encoding_are_scored(content, write, metric):
    content['categories'] = sorted(content['categories'], key=lambda category: category['id'])  # as mmdet needs them
    truth = {}
    for annotation in content['annotations']:
        x, y, w, h = annotation['bbox']
        annotation['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        truth.setdefault(annotation['image_id'], []).append(annotation)
    dataset, _ = build(content, write, None)
    metric = metric(ann_file=dataset.ann_file, metric='segm')
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        size = (info['height'], info['width'])
        masks = [coco_mask.frPyObjects(a['segmentation'], *size)[0] for a in truth.get(info['img_id'], [])]
        prediction = dict(masks=RLEMasks(map(RLE, masks), size), scores=torch.full((len(masks),), 0.9))
        prediction['labels'] = torch.tensor([i['bbox_label'] for i in info['instances']], dtype=torch.long)
        prediction['bboxes'] = torch.zeros(len(masks), 4)
        metric.process({}, [dict(pred_instances=prediction, img_id=info['img_id'], ori_shape=size)])
    assert metric.evaluate(size=len(dataset))['coco/segm_mAP'] == pytest.approx(1.0)


@pytest.mark.parametrize('crowd', [0, 1])
@pytest.mark.parametrize(
    ('mask', 'reason'),
    [
        (None, 'have no segmentation'),
        ([[1, 1, 5, 5], [1, 1, 9, 1, 1, 9]], 'begin with a polygon of fewer than three points'),
        ({'size': [5, 5], 'counts': [25]}, 'have a run-length code of another size'),
        ({'size': [60, 80], 'counts': 'aSh02'}, 'have a damaged run-length code'),
        ({'size': [60, 80], 'counts': [4799]}, 'have a damaged run-length code'),
    ],
)
def test_masks_that_cannot_be_scored_are_refused_at_once(content, write, mask, reason, crowd):
    """COCO's evaluation fails on the first two, scores 0 for the third, and may never end with the last two."""
    for annotation in content['annotations']:
        annotation['segmentation'] = [[1, 1, 9, 1, 1, 9]]
    bad = content['annotations'][3]
    bad.update(segmentation=mask, iscrowd=crowd)
    ann_file = f'{write(content)["data_root"]}/ann.json'
    with pytest.raises(RefusedError, match=rf'ann\.json: every object .*got 1 that {reason}.*ids \[{bad["id"]}\]'):
        RTMCocoMetric(ann_file=ann_file, metric=['bbox', 'segm'])
    RTMCocoMetric(ann_file=ann_file, metric='bbox')


def build(content, write, classes, metric=RTMCocoMetric, classwise=False):
    settings = write(content)
    metainfo = {} if classes is None else {'classes': classes}
    dataset = RTMCocoDataset(**settings, metainfo=metainfo, test_mode=True)
    return dataset, metric(ann_file=f'{settings["data_root"]}/ann.json', classwise=classwise)


ORDERS = [None, *itertools.permutations(CLASSES), ('disc', 'square'), ('bar',)]


@pytest.mark.parametrize('classes', ORDERS, ids=str)
def test_ground_truth_as_prediction_scores_one(content, write, classes):
    """Ids in the file: 7, 0, 3."""
    dataset, metric = build(content, write, classes)
    assert evaluate(metric, dataset)['coco/bbox_mAP'] == pytest.approx(1.0)


@pytest.mark.parametrize('classes', ORDERS[:-1], ids=str)
def test_each_class_gets_its_own_figure(content, write, classes):
    dataset, metric = build(content, write, classes, classwise=True)
    scores = evaluate(metric, dataset, wrong_class='disc')
    assert scores['coco/disc_precision'] == 0
    for name in dataset.metainfo['classes']:
        if name != 'disc':
            assert scores[f'coco/{name}_precision'] == pytest.approx(1.0)


def test_mmdets_metric_takes_one_class_for_another(content, write):
    """The reason for this metric; RTMCocoDataset warns about it. In the file's order both metrics agree."""
    dataset, metric = build(content, write, None, CocoMetric)
    assert evaluate(metric, dataset)['coco/bbox_mAP'] < 0.2
    content['categories'] = sorted(content['categories'], key=lambda c: c['id'])
    dataset, metric = build(content, write, None, CocoMetric)
    assert evaluate(metric, dataset)['coco/bbox_mAP'] == pytest.approx(1.0)
    dataset, ours = build(content, write, None)
    dataset, theirs = build(content, write, None, CocoMetric)
    assert evaluate(ours, dataset, 'bar') == evaluate(theirs, dataset, 'bar')


def test_a_model_that_finds_nothing_scores_zero(content, write):
    """mmdet's metric returns no figure at all in this case."""
    for metric, expected in ((RTMCocoMetric, 0), (CocoMetric, None)):
        dataset, metric = build(content, write, None, metric, classwise=True)
        metric.dataset_meta = dataset.metainfo
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            nothing = {
                'bboxes': torch.empty(0, 4),
                'scores': torch.empty(0),
                'labels': torch.empty(0, dtype=torch.long),
            }
            sample = dict(pred_instances=nothing, img_id=info['img_id'], ori_shape=(info['height'], info['width']))
            metric.process({}, [sample])
        scores = metric.evaluate(size=len(dataset))
        assert (
            scores.get('coco/bbox_mAP')
            == scores.get('coco/bbox_mAP_50')
            == scores.get('coco/disc_precision')
            == expected
        )


def test_without_an_annotation_file(content, write):
    dataset = RTMCocoDataset(**write(content), metainfo={'classes': ('disc', 'square', 'bar')}, test_mode=True)
    assert evaluate(RTMCocoMetric(), dataset)['coco/bbox_mAP'] == pytest.approx(1.0)


def test_no_prediction_at_all(content, write):
    dataset, metric = build(content, write, None)
    metric.dataset_meta = dataset.metainfo
    nothing = {
        'bboxes': torch.zeros(0, 4),
        'scores': torch.zeros(0),
        'labels': torch.zeros(0, dtype=torch.long),
    }
    for index in range(len(dataset)):
        metric.process({}, [{'pred_instances': nothing, 'ori_shape': (60, 80), 'img_id': 100 - index}])
    assert metric.evaluate(size=len(dataset)).get('coco/bbox_mAP', 0) == 0


def test_class_that_the_file_does_not_have(content, write):
    dataset, metric = build(content, write, None)
    metric.dataset_meta = {'classes': ('disc', 'ring')}
    with pytest.raises(ValueError, match=r"\['square', 'bar', 'disc'\].*\['ring'\]"):
        metric.compute_metrics([({}, {'labels': np.zeros(0, int)})])


@pytest.mark.parametrize('drop', [('iscrowd',), ('area',), ('id',), ('iscrowd', 'area', 'id')], ids=str)
def test_file_made_by_hand(content, write, drop):
    """pycocotools needs these keys, one of them only in the first validation."""
    dataset, metric = build(content, write, None)
    expected = evaluate(metric, dataset, wrong_class='bar')
    for annotation in content['annotations']:
        for key in drop:
            del annotation[key]
    dataset, metric = build(content, write, None)
    assert evaluate(metric, dataset, wrong_class='bar') == expected


def test_ids_from_zero_on(content, write):
    """pycocotools treats a match with object 0 as no match, so its box would count as a false positive."""
    for number, annotation in enumerate(content['annotations']):
        annotation['id'] = number
    dataset, metric = build(content, write, None)
    assert evaluate(metric, dataset)['coco/bbox_mAP'] == pytest.approx(1.0)
    content['categories'] = sorted(content['categories'], key=lambda c: c['id'])  # mmdet's metric needs this order
    dataset, theirs = build(content, write, None, CocoMetric)
    assert evaluate(theirs, dataset)['coco/bbox_mAP'] < 0.99


def test_broken_file_is_refused_before_the_run(content, write):
    content['annotations'][4]['bbox'] = [None] * 4
    settings = write(content)
    with pytest.raises(ValueError, match=r'ann.json: annotations\[4\] with id 21: bbox must be .* got \[None'):
        RTMCocoMetric(ann_file=f'{settings["data_root"]}/ann.json')


def test_test_set_without_annotations_can_be_predicted_on(content, write, tmp_path):
    del content['annotations']
    settings = write(content)
    dataset = RTMCocoDataset(**settings, test_mode=True)
    metric = RTMCocoMetric(f'{settings["data_root"]}/ann.json', format_only=True, outfile_prefix=str(tmp_path / 'out'))
    evaluate(metric, dataset)
    assert (tmp_path / 'out.bbox.json').exists()


def test_is_registered():
    assert isinstance(METRICS.build({'type': 'RTMCocoMetric'}), RTMCocoMetric)
