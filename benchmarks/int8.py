"""Measure the AP of INT8 models by range method, by parts that stay in float and by runtime.

    RTMDET_DATA=... RTMDET_WEIGHTS=... python benchmarks/int8.py
    RTMDET_DATA=... python benchmarks/int8.py projects/blood_cells/rtmdet_tiny_blood_cells.py CHECKPOINT

Without arguments it uses the published person weights (nano, 320 px) on coco_tiny: calibrated on images of the training
set, evaluated on the 50 images of the validation set, in one run. With so few images, equally good choices may differ
by 0.005 AP.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.config import Config
from results import report

from rtmdet_plugin.checkpoints.load_model import load_model, read_config
from rtmdet_plugin.export.onnx_export import export_onnx, write_onnx
from rtmdet_plugin.inference.evaluation import evaluate
from rtmdet_plugin.quantization.nncf_int8 import quantize_openvino
from rtmdet_plugin.quantization.quantize import Calibration, evenly_spaced
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.choices import FLOAT_PARTS, METHODS, PARTS, TARGETS

PERSON = Path(__file__).parents[1] / 'configs' / 'rtmdet_nano_person.py'
NUM_IMAGES = 100
TOLERANCE, TOLERANCES = 0.001, (1, 0.01, 0.004, 0.002, 0.001, 0.0005)
RUNTIMES = dict(onnxruntime='onnxruntime', openvino='openvino', tensorrt='onnxruntime')
"""Runtime that evaluates a target's files: there is no TensorRT here, but ONNX Runtime computes the same Q/DQ graph."""


def measure(config: Config, model: Path, threads: int, backend: str) -> float:
    """Return the AP of a model on the config's test set."""
    with contextlib.redirect_stdout(io.StringIO()):
        detector = RTMDetector(model, backend=backend, threads=threads, precision='float32')
        return evaluate(config, detector)['coco/bbox_mAP']


def calibration_images(config: Config) -> list[Path]:
    """Return evenly spaced images of the config's training set; calibration needs no labels, so any image will do."""
    dataset = config.train_dataloader.dataset
    root = Path(dataset.data_root)
    images = json.loads((root / dataset.ann_file).read_text())['images']
    folder = root / dataset.data_prefix.img
    return evenly_spaced(sorted(folder / image['file_name'] for image in images), NUM_IMAGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='?', type=Path, default=PERSON)
    parser.add_argument('checkpoint', nargs='?', type=Path, help='checkpoint of that config')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    threads = args.threads
    needed = ['RTMDET_DATA', *(['RTMDET_WEIGHTS'] if args.checkpoint is None else [])]
    if missing := [name for name in needed if name not in os.environ]:
        raise SystemExit(f'{", ".join(missing)} must be set to the folders of the data and of the person weights')
    if args.config == PERSON:
        os.environ['RTMDET_COCO'] = str(Path(os.environ['RTMDET_DATA']) / 'coco_tiny')
    checkpoint = args.checkpoint or Path(os.environ['RTMDET_WEIGHTS']) / 'rtmdet_nano_person.pth'
    config = read_config(args.config)
    images = calibration_images(config)
    rows = []

    def add(model: Path, target: str, ranges: str, parts: tuple[str, ...], layers: int, backend: str) -> None:
        ap = measure(config, model, threads, backend)
        row = dict(
            target=target, ranges=ranges, float_parts=' '.join(parts), float_layers=layers, runtime=backend, AP=ap
        )
        rows.append(row)
        print(row, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        source, target_file = Path(folder) / 'float.onnx', Path(folder) / 'int8.onnx'
        export_onnx(load_model(config, checkpoint), source, for_map=True)
        calibration = Calibration(source, images, threads)
        ranges_of = {method: calibration.ranges(method) for method in METHODS}
        for backend in dict.fromkeys(RUNTIMES.values()):
            add(source, '-', 'float', (), 0, backend)

        tried = set()

        def try_choice(target: str, method: str, parts: tuple[str, ...], layers: list[str]) -> None:
            if (choice := (target, method, parts, *layers)) in tried:
                return
            tried.add(choice)
            write_onnx(calibration.quantize(ranges_of[method], parts, layers, target), target_file)
            add(target_file, target, method, parts, len(layers), RUNTIMES[target])

        for target in TARGETS:
            for method in METHODS:
                errors = calibration.layer_errors(ranges_of[method], FLOAT_PARTS, target)
                for tolerance in TOLERANCES if method == 'mse' else (1, TOLERANCE):
                    try_choice(target, method, FLOAT_PARTS, [name for name, e in errors.items() if e > tolerance])
                if method == 'mse':
                    kept = [name for name, e in errors.items() if e > TOLERANCE]
            # Quantise each float part by itself, then all of them; then keep all parts in float, including the stem.
            choices = [tuple(part for part in FLOAT_PARTS if part != back) for back in FLOAT_PARTS]
            for parts in (*choices, (), tuple(PARTS)):
                try_choice(target, 'mse', parts, kept)

        for tolerance in (1, TOLERANCE) if find_spec('nncf') else ():  # nncf is an optional extra
            layers = quantize_openvino(source, Path(folder) / 'nncf.xml', images, tolerance=tolerance, threads=threads)
            add(Path(folder) / 'nncf.xml', 'openvino', 'NNCF', FLOAT_PARTS, len(layers), 'openvino')
        report(f'int8_{args.config.stem}', rows)


if __name__ == '__main__':
    main()
