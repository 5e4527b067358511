"""COCO evaluation of a deployed model, by the config's own test set and evaluator."""

from __future__ import annotations

from dataclasses import replace

import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from rtmdet_runtime import Detections, RTMDetector

from .metadata import thresholds


def evaluate(config: Config, detector: RTMDetector, batch_size: int = 1) -> dict[str, float]:
    """Run a model on the config's test set.

    Args:
        config: with `test_dataloader` and `test_evaluator`; of its pipeline only the pictures' paths are used, the
            preprocessing is the model's own.
        detector: the model.
        batch_size: pictures that the network gets at once.

    Returns:
        What the evaluator measures, such as `coco/bbox_mAP`.

    Raises:
        ValueError: where the test set's classes aren't the model's.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(config.test_dataloader.dataset)
    classes = tuple(dataset.metainfo['classes'])
    if len(classes) != len(detector.info.classes):
        raise ValueError(
            f'the model has {len(detector.info.classes)} classes, the test set {len(classes)}; accepted: the same'
        )
    evaluator = Evaluator(config.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    for start in range(0, len(dataset), batch_size):
        batch = [dataset.get_data_info(i) for i in range(start, min(start + batch_size, len(dataset)))]
        found = detector.predict([info['img_path'] for info in batch], batch_size)
        evaluator.process([data_sample(*pair) for pair in zip(batch, found, strict=True)])
    return evaluator.evaluate(len(dataset))


def use_thresholds(detector: RTMDetector, test_cfg: ConfigDict) -> None:
    """Have a model use a config's thresholds in place of its own, unless NMS is part of its graph."""
    if detector.info.form in ('raw', 'decoded'):
        detector.info = replace(detector.info, **thresholds(test_cfg))


def data_sample(info: dict, detections: Detections) -> DetDataSample:
    """What mmdet's metrics take: the predictions, and of the picture its id and size."""
    names = dict(bboxes=detections.boxes, scores=detections.scores, labels=detections.labels)
    predictions = InstanceData(**{name: torch.from_numpy(array) for name, array in names.items()})
    size = (info['height'], info['width'])
    metainfo = dict(img_id=info['img_id'], img_path=info['img_path'], ori_shape=size, instances=info['instances'])
    return DetDataSample(metainfo=metainfo, pred_instances=predictions)
