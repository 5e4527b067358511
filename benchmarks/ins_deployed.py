"""Compare box and mask AP of RTMDet-Ins in PyTorch with that of exported and quantised models.

    python benchmarks/ins_trained.py --sides ours --seeds 0
    cd work_dirs/ins_trained
    python ../../benchmarks/ins_deployed.py ours_0/rtmdet_ins_tiny.py ours_0/epoch_9.pth data/train

The images of the config's test set are evaluated with its thresholds and a batch size of 1. The first row is the
model's own prediction, as in validation. All other rows use the post-processing of `rtmdet_runtime`, and have the
difference of their AP to that of the first row. INT8 files have the export format `decoded`, and are calibrated on
evenly spaced images of the folder.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from results import report

from rtmdet_plugin import RTMDetPredictor
from rtmdet_plugin.checkpoints.load_model import load_model, read_config
from rtmdet_plugin.evaluation.boxes import boxes_of
from rtmdet_plugin.evaluation.coco_ap import coco_ap
from rtmdet_plugin.export.convert import to_ncnn
from rtmdet_plugin.export.metadata import class_names
from rtmdet_plugin.export.onnx_export import export_onnx, write_onnx
from rtmdet_plugin.inference.detect import category_of_label, detect
from rtmdet_plugin.inference.evaluation import build_test
from rtmdet_plugin.inference.quiet import quiet
from rtmdet_plugin.inference.truth_of_config import truth_of_config
from rtmdet_plugin.quantization.quantize import Calibration, evenly_spaced
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.choices import FLOAT_PARTS

FORMS = ('raw', 'decoded', 'nms')
NUM_IMAGES = 100
RUNTIMES = dict(onnxruntime='onnxruntime', openvino='openvino', tensorrt='onnxruntime')
"""Runtime that evaluates a target's files: there is no TensorRT here, but ONNX Runtime computes the same Q/DQ graph."""
TOLERANCE = 0.001
PREDICTIONS_TOO = tuple(part for part in FLOAT_PARTS if part != 'predictions')
"""Parts that stay in float if the last convolutions are in INT8, also those of kernels and prototypes."""


def found_by_model(config: Config, model: BaseDetector, truth: dict) -> list[dict]:
    """Return what a model predicts for the config's test set, in the format of `detect`."""
    dataset, _ = build_test(config)
    categories = category_of_label(class_names(model), truth['categories'])
    found = []
    for sample in dataset:
        with torch.no_grad():
            (result,) = model.test_step(pseudo_collate([sample]))
        boxes = result.pred_instances
        for (x1, y1, x2, y2), score, label, mask in zip(
            boxes.bboxes.tolist(), boxes.scores.tolist(), boxes.labels.tolist(), boxes.masks, strict=True
        ):
            box = dict(image_id=result.img_id, category_id=categories[label], bbox=[x1, y1, x2 - x1, y2 - y1])
            found.append(box | dict(score=score, segmentation=dict(mask)))
    return found


def aps(truth: dict, found: list[dict]) -> dict[str, float]:
    """Return AP of boxes and of masks."""
    objects, detections = (boxes_of(entries, truth, masks=True) for entries in (truth['annotations'], found))
    classes = len(truth['categories'])
    return {
        f'{name} AP': round(float(coco_ap(objects, detections, classes, masks).ap), 4)
        for name, masks in (('box', False), ('mask', True))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path, help='config of RTMDet-Ins that ins_trained.py wrote')
    parser.add_argument('checkpoint', type=Path, help='checkpoint of that config')
    parser.add_argument('images', type=Path, help='folder with images to calibrate on')
    parser.add_argument('--quick', action='store_true', help='check that the script runs; write no results')
    args = parser.parse_args()
    threads = torch.get_num_threads()
    config = read_config(args.config)
    if args.quick:
        config.test_dataloader.dataset.indices = 8  # the first eight images
    model, truth = load_model(config, args.checkpoint), truth_of_config(config, 'test')
    images = evenly_spaced(sorted(args.images.iterdir()), 8 if args.quick else NUM_IMAGES)
    rows = []

    def add(
        form: str, backend: str, found: list[dict], precision: str = 'float32', parts: str = '', layers: int = 0
    ) -> None:
        values = aps(truth, found)
        first = rows[0] if rows else values
        differences = {f'{name} difference': round(value - first[name], 4) for name, value in values.items()}
        kept = dict(float_parts=parts, float_layers=layers) if parts else dict(float_parts='all', float_layers='all')
        rows.append(dict(form=form, backend=backend, precision=precision, **kept, **values, **differences))
        print(rows[-1], flush=True)

    def found_by(detector: RTMDetector) -> list[dict]:
        with quiet():
            found, bad = detect(detector, truth)
        if bad:
            raise SystemExit('\n'.join(bad.values()))
        return found

    def open_file(file: Path, backend: str) -> RTMDetector:
        return RTMDetector(file, backend=backend, threads=threads, precision='float32')

    with quiet():
        found = found_by_model(config, model, truth)
    add('checkpoint', 'PyTorch', found)
    add('checkpoint', 'RTMDetPredictor', found_by(RTMDetPredictor(config, args.checkpoint, for_map=True)))
    with tempfile.TemporaryDirectory() as folder:
        files = {form: Path(folder) / f'{form}.onnx' for form in FORMS}
        for form, file in files.items():
            export_onnx(model, file, form=form, for_map=True)
            for backend in ('onnxruntime', 'openvino'):
                add(form, backend, found_by(open_file(file, backend)))
            if form != 'nms':  # ncnn has no NMS
                to_ncnn(file, file.with_suffix('.param'))
                add(form, 'ncnn', found_by(open_file(file.with_suffix('.param'), 'ncnn')))

        calibration = Calibration(files['decoded'], images, threads)
        ranges, int8 = calibration.ranges('mse'), Path(folder) / 'int8.onnx'
        for target, backend in RUNTIMES.items():
            sensitive = calibration.sensitive_layers(ranges, FLOAT_PARTS, TOLERANCE, target)
            # For ONNX Runtime, the neighbours of layers in float stay in float; here these would be the predictions.
            for parts, layers in ((FLOAT_PARTS, sensitive), (FLOAT_PARTS, {}), (PREDICTIONS_TOO, {})):
                write_onnx(calibration.quantize(ranges, parts, layers, target), int8)
                description = f'INT8 for {target}', ' '.join(parts), len(layers)
                add('decoded', backend, found_by(open_file(int8, backend)), *description)
            if args.quick:
                break
    report('ins_deployed', rows, save=not args.quick)


if __name__ == '__main__':
    main()
