"""AP of INT8 by choice: how ranges are found, what stays in float, which runtime.

    RTMDET_DATA=... RTMDET_WEIGHTS=... python benchmarks/int8.py

The published person weights (nano, 320 px), calibrated on the 50 images of coco_tiny's train set, evaluated on the 50
of its val set, in one run. Nano has depthwise convolutions throughout: of all sizes the hardest to quantise. With so
few images choices of the same worth may differ by 0.005 in AP.
"""

import argparse
import contextlib
import io
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from harness import write
from mmengine.config import Config

from rtmdet_plugin.deploy.calibration import METHODS
from rtmdet_plugin.deploy.checkpoint import load_model, read_config
from rtmdet_plugin.deploy.evaluation import evaluate
from rtmdet_plugin.deploy.graph_parts import PARTS
from rtmdet_plugin.deploy.nncf_int8 import quantize_openvino
from rtmdet_plugin.deploy.onnx_export import export_onnx, write_onnx
from rtmdet_plugin.deploy.quantize import FLOAT_PARTS, Calibration
from rtmdet_runtime import RTMDetector

CONFIG = Path(__file__).parents[1] / 'configs' / 'rtmdet_nano_person.py'
TOLERANCE = 0.001


def measure(config: Config, model: Path, threads: int, backend: str | None = None) -> float:
    """AP of a model on the config's test set."""
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluate(config, RTMDetector(model, backend=backend, threads=threads))['coco/bbox_mAP']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    threads = parser.parse_args().threads
    if missing := [name for name in ('RTMDET_DATA', 'RTMDET_WEIGHTS') if name not in os.environ]:
        raise SystemExit(f'{", ".join(missing)}: not set; they name the folders of coco_tiny and of the person weights')
    data = Path(os.environ['RTMDET_DATA']) / 'coco_tiny'
    os.environ['RTMDET_COCO'] = str(data)
    config = read_config(CONFIG)
    images = sorted((data / 'train2017').iterdir())
    rows = []

    def add(model: Path, method: str, parts: tuple[str, ...], layers: int, backend: str | None = None) -> None:
        ap = measure(config, model, threads, backend)
        runtime = backend or 'onnxruntime'
        rows.append(dict(runtime=runtime, ranges=method, float_parts=' '.join(parts), float_layers=layers, AP=ap))
        print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / 'float.onnx', Path(folder) / 'int8.onnx'
        export_onnx(load_model(config, Path(os.environ['RTMDET_WEIGHTS']) / 'rtmdet_nano_person.pth'), source)
        calibration = Calibration(source, images, threads)
        add(source, 'float', (), 0)
        add(source, 'float', (), 0, 'openvino')

        errors = {}
        for method in METHODS:
            ranges = calibration.ranges(method)
            errors[method] = calibration.layer_errors(ranges, FLOAT_PARTS)
            for tolerance in (1, TOLERANCE):
                layers = [name for name, error in errors[method].items() if error > tolerance]
                write_onnx(calibration.quantize(ranges, FLOAT_PARTS, layers), target)
                add(target, method, FLOAT_PARTS, len(layers))
                if method == 'mse' and tolerance < 1:
                    add(target, method, FLOAT_PARTS, len(layers), 'openvino')

        # Each part alone put back into INT8, then all of them, then the stem in float too.
        ranges = calibration.ranges('mse')
        layers = [name for name, error in errors['mse'].items() if error > TOLERANCE]
        choices = [tuple(part for part in FLOAT_PARTS if part != back) for back in FLOAT_PARTS]
        for parts in (*choices, (), tuple(PARTS)):
            write_onnx(calibration.quantize(ranges, parts, layers), target)
            add(target, 'mse', parts, len(layers))
        for tolerance in (0.01, 0.004, 0.002, 0.0005):
            layers = [name for name, error in errors['mse'].items() if error > tolerance]
            write_onnx(calibration.quantize(ranges, FLOAT_PARTS, layers), target)
            add(target, 'mse', FLOAT_PARTS, len(layers))
        write_onnx(calibration.quantize(ranges, FLOAT_PARTS, layers, for_tensorrt=True), target)
        add(target, 'mse, for TensorRT', FLOAT_PARTS, len(layers))

        for tolerance in (1, TOLERANCE) if find_spec('nncf') else ():  # an extra of its own
            layers = quantize_openvino(source, Path(folder) / 'nncf.xml', images, tolerance=tolerance, threads=threads)
            add(Path(folder) / 'nncf.xml', 'NNCF', FLOAT_PARTS, len(layers), 'openvino')
        write('int8', rows, ['runtime', 'ranges', 'float_parts', 'float_layers', 'AP'])


if __name__ == '__main__':
    main()
