"""Evaluate a model on the test set of a config with the config's evaluator."""

from __future__ import annotations

import contextlib
import copy
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from rtmdet_runtime import Detections, RTMDetector

from ..checkpoints.load_model import config_name, load_model
from ..export.metadata import check_test_cfg, class_names, has_masks, numbered_classes, thresholds
from ..models.rle_masks import RLE, RLEMasks
from .quiet import ProgressHook, progress, show_warnings


@show_warnings()
def evaluate(config: Config, detector: RTMDetector, batch_size: int = 1) -> dict[str, float]:
    """Evaluate an exported model on the config's test set.

    Args:
        config: config with `test_dataloader` and `test_evaluator`. Its pipeline isn't used: the detector reads and
            preprocesses the image files.
        detector: the exported model.
        batch_size: number of images that the network gets at once.

    Returns:
        The evaluator's metrics, such as `coco/bbox_mAP`.

    Raises:
        FileNotFoundError, ValueError: see `build_test`, `check_classes`, `check_masks` and `check_metrics`;
            FileNotFoundError also if an image doesn't exist.
    """
    dataset, evaluator = build_test(config)
    check_classes(detector.info.classes, dataset.metainfo['classes'])
    check_masks(bool(detector.info.mask_stride), evaluator, config)
    with progress(len(dataset)) as report:
        for start in range(0, len(dataset), batch_size):
            batch = [dataset.get_data_info(i) for i in range(start, min(start + batch_size, len(dataset)))]
            found = detector.predict([info['img_path'] for info in batch], batch_size)
            evaluator.process([data_sample(*pair) for pair in zip(batch, found, strict=True)])
            report(start + len(batch))
    return check_metrics(evaluator.evaluate(len(dataset)), config)


def evaluate_checkpoint(
    config: Config, checkpoint: str | Path, work_dir: Path, batch_size: int | None = None
) -> tuple[dict[str, float], Path]:
    """Evaluate a checkpoint on the config's test set with mmengine's Runner, like `mim test`.

    Args:
        config: config with `test_dataloader` and `test_evaluator`.
        checkpoint: checkpoint of this config's model, see `load_model`.
        work_dir: folder in which the Runner creates a new folder with its log.
        batch_size: batch size of the test; None for the config's.

    Returns:
        The evaluator's metrics, such as `coco/bbox_mAP`, and the log file.

    Raises:
        FileNotFoundError, ValueError: see `load_model`, `build_test`, `check_classes`, `check_masks`, `check_test_cfg`
            and `check_metrics`.
    """
    config = copy.deepcopy(config)
    check_test_cfg(config.model.get('test_cfg'))
    dataset, evaluator = build_test(config)
    model = load_model(config, checkpoint)
    check_classes(class_names(model), dataset.metainfo['classes'])
    check_masks(has_masks(model.bbox_head), evaluator, config)
    config.load_from, config.resume = None, False
    if batch_size is not None:
        config.test_dataloader.batch_size = batch_size
    # mmengine reuses the logger and the visualizer of an earlier run with the same name.
    config.work_dir, config.experiment_name = str(work_dir), f'test_{uuid.uuid4().hex}'
    if config.get('visualizer'):
        config.visualizer.name = config.experiment_name
    with building(config, 'run'):
        runner = Runner.from_cfg(config)
    runner.model.load_state_dict(model.state_dict())  # before the test, because an EMA hook copies them then
    print(f'log: {runner.logger.log_file}', file=sys.stderr)  # before the test, which may fail
    with show_warnings(), progress(len(runner.test_loop.dataloader)) as report:
        runner.register_hook(ProgressHook(report))
        metrics = runner.test()
    return check_metrics(metrics, config), Path(runner.logger.log_file)


def check_metrics(metrics: dict[str, float], config: Config) -> dict[str, float]:
    """Return an evaluator's metrics.

    Raises:
        ValueError: if there are none.
    """
    if not metrics:
        raise ValueError(
            f'test_evaluator of {config_name(config)} must give at least one metric, got none; if the model finds '
            "nothing in all images, mmdet's CocoMetric gives none: use RTMCocoMetric with an ann_file, which gives AP 0"
        )
    return metrics


def build_test(config: Config) -> tuple[BaseDataset, Evaluator]:
    """Build the test set and the evaluator of a config.

    Raises:
        FileNotFoundError: if one of their files doesn't exist.
        ValueError: if the config has no test set or no evaluator, one can't be built, or the test set has no images.
    """
    for part in ('test_dataloader', 'test_evaluator'):
        if not config.get(part):
            raise ValueError(f'{config_name(config)} must have {part} to be tested, got none')
    init_default_scope(config.get('default_scope', 'mmdet'))
    with building(config, 'test_dataloader'):
        dataset = DATASETS.build(config.test_dataloader.dataset)
    if not len(dataset):
        raise ValueError(f'test_dataloader of {config_name(config)} must have at least one image, got none')
    with building(config, 'test_evaluator'):
        evaluator = Evaluator(config.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    return dataset, evaluator


@contextlib.contextmanager
def building(config: Config, part: str) -> Iterator[None]:
    """Name the config and its part in errors of a build."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{part} of {config_name(config)}: no such file: {error.filename or error}') from None
    except (KeyError, TypeError, AttributeError) as error:  # an unknown type or argument
        raise ValueError(f'{part} of {config_name(config)} can not be built: {error}') from None


def check_classes(model: Sequence[str], dataset: Sequence[str]) -> None:
    """Raise a `ValueError` unless a model has the classes of a test set in the same order, as its labels require.

    If the model's classes are named by numbers, only the number of classes is compared.
    """
    if len(model) != len(dataset):
        raise ValueError(f'the model must have the {len(dataset)} classes of the test set, got {len(model)} classes')
    if tuple(model) == numbered_classes(len(model)):
        return
    for label, (ours, theirs) in enumerate(zip(model, dataset, strict=True)):
        if ours != theirs:
            order = ' (the same names in another order)' if sorted(model) == sorted(dataset) else ''
            raise ValueError(
                f'class {label} of the model must be {theirs!r}, as in the test set, got {ours!r}{order}; use the test '
                'set on whose classes the model was trained'
            )


def check_masks(predicted: bool, evaluator: Evaluator, config: Config) -> None:
    """Raise a `ValueError` if an evaluator needs masks that a model doesn't predict.

    Args:
        predicted: whether the model predicts masks.
        evaluator: test evaluator of the config.
        config: the config.
    """
    if not predicted and any('segm' in getattr(metric, 'metrics', ()) for metric in evaluator.metrics):
        raise ValueError(
            f"test_evaluator.metric of {config_name(config)} must be 'bbox' for a model without masks, got 'segm' too; "
            'add --cfg-options test_evaluator.metric=bbox, or use a model with masks (RTMDet-Ins)'
        )


def use_thresholds(detector: RTMDetector, test_cfg: ConfigDict) -> RTMDetector:
    """Return a detector with a config's thresholds on the same backend; the detector itself if its graph has NMS.

    Raises:
        ValueError: if a threshold can't be used.
    """
    if detector.info.form not in ('raw', 'decoded'):
        return detector
    height, width = detector.info.input_size
    return RTMDetector(detector.backend, size=(height, width), **thresholds(test_cfg))


def data_sample(info: dict, detections: Detections) -> DetDataSample:
    """Return the input of mmdet's metrics: the predictions, and the id and size of the image."""
    names = dict(bboxes=detections.boxes, scores=detections.scores, labels=detections.labels)
    predictions = InstanceData(**{name: torch.from_numpy(array) for name, array in names.items()})
    if detections.masks is not None:
        predictions.masks = RLEMasks(map(RLE, detections.masks.rle()), detections.masks.size)
    size = (info['height'], info['width'])
    metainfo = dict(img_id=info['img_id'], img_path=info['img_path'], ori_shape=size, instances=info['instances'])
    return DetDataSample(metainfo=metainfo, pred_instances=predictions)
