"""Compare the AP of the person weights in float32 and in bfloat16, which runs emulated on CPUs that don't have it.

    RTMDET_DATA=... RTMDET_WEIGHTS=... python benchmarks/precision.py

OpenVINO runs at 320 and 640 px with NMS at 0.6 and 0.65, on the images of coco_tiny's validation and training set. The
weights were trained on the latter, so only the difference of their AP counts. The other backends run at 320 px with the
config's NMS at 0.65 on the validation set.
"""

import contextlib
import copy
import io
import itertools
import os
import statistics
import tempfile
from pathlib import Path
from unittest import mock

import torch
from harness import write
from mmengine.config import Config

from rtmdet_plugin import RTMDetPredictor, load_model
from rtmdet_plugin.checkpoints.load_model import read_config
from rtmdet_plugin.export.convert import to_ncnn
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference.evaluation import evaluate, use_thresholds
from rtmdet_plugin.quantization.quantize import quantize_onnx
from rtmdet_runtime import RTMDetector

PERSON = Path(__file__).parents[1] / 'configs' / 'rtmdet_nano_person.py'
VAL, TRAIN = 'val2017', 'train2017'


def on_split(config: Config, split: str, iou_thr: float) -> Config:
    """Return a config that tests on a split of coco_tiny, with an IoU threshold of NMS."""
    config = copy.deepcopy(config)
    config.model.test_cfg.nms.iou_threshold = iou_thr
    dataset = config.test_dataloader.dataset
    dataset.ann_file = dataset.ann_file.replace(VAL, split)
    dataset.data_prefix.img = dataset.data_prefix.img.replace(VAL, split)
    config.test_evaluator.ann_file = config.test_evaluator.ann_file.replace(VAL, split)
    return config


def ap(config: Config, detector: RTMDetector) -> float:
    """Return the AP of a detector with the config's thresholds."""
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluate(config, use_thresholds(detector, config.model.test_cfg))['coco/bbox_mAP']


def main() -> None:
    data, weights = Path(os.environ['RTMDET_DATA']) / 'coco_tiny', Path(os.environ['RTMDET_WEIGHTS'])
    os.environ['RTMDET_COCO'] = f'{data}/'
    config, checkpoint = read_config(PERSON), weights / 'rtmdet_nano_person.pth'
    model, rows = load_model(config, checkpoint), []
    threads = torch.get_num_threads()

    def compare(name: str, detectors: dict[str, RTMDetector], split: str, iou_thr: float) -> None:
        tested = on_split(config, split, iou_thr)
        found = {precision: ap(tested, detector) for precision, detector in detectors.items()}
        difference = round(found['bfloat16'] - found['float32'], 3)
        rows.append(dict(model=name, images=split, nms=iou_thr, **found, difference=difference))
        print(rows[-1], flush=True)

    def both(file: Path, backend: str) -> dict[str, RTMDetector]:
        settings = dict(backend=backend, threads=threads)
        return {name: RTMDetector(file, precision=name, **settings) for name in ('float32', 'bfloat16')}

    with tempfile.TemporaryDirectory() as folder:
        for side in (320, 640):
            file = Path(folder) / f'{side}.onnx'
            export_onnx(model, file, size=(side, side), for_map=True, opset=17)
            detectors = both(file, 'openvino')
            for split, iou_thr in itertools.product((VAL, TRAIN), (0.6, 0.65)):
                compare(f'OpenVINO, {side} px', detectors, split, iou_thr)
        print(f'mean difference: {statistics.mean(row["difference"] for row in rows):+.4f}')
        source = Path(folder) / '320.onnx'
        quantize_onnx(source, Path(folder) / 'int8.onnx', sorted((data / TRAIN).iterdir()), target='openvino')
        compare('OpenVINO, INT8, 320 px', both(Path(folder) / 'int8.onnx', 'openvino'), VAL, 0.65)
        to_ncnn(source, Path(folder) / '320.param')
        compare('ncnn, 320 px', both(Path(folder) / '320.param', 'ncnn'), VAL, 0.65)
    with mock.patch('rtmdet_plugin.inference.predictor.cpu_has_bfloat16', return_value=True):  # emulated
        predictors = {
            name: RTMDetPredictor(config, checkpoint, precision=name, for_map=True) for name in ('float32', 'bfloat16')
        }
    compare('PyTorch, 320 px', predictors, VAL, 0.65)
    write('precision', rows, list(rows[0]))


if __name__ == '__main__':
    main()
