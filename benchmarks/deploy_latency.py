"""Measure the latency of one image at 640 px: mmdet, mmdet's model through mmdeploy's stock export, and our models.

    python benchmarks/deploy_latency.py --sizes tiny s --threads 2 --rounds 30 --busy-cores 0 1

All run in one process with the same random weights, the same thresholds (the config's: score 0.001, 300 boxes) and the
same image in memory: one of coco_tiny if RTMDET_DATA is set, otherwise noise. NMS has as much work as with trained
weights, because the bias of the last convolution is set such that `--candidates` pairs of prior and class have a score
above the threshold. In the INT8 models only the parts that are known from the architecture stay in float; sensitive
layers would depend on trained weights. Next to busy cores, our models have as many threads as cores are free, as in the
commands.

Every candidate is called once per round; the figures are medians, ranges and 95th percentiles over the rounds. Writes
benchmarks/results/deploy_latency_<device>_<machine>.json.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import mmdet
import torch
from harness import Cost, arguments, busy_cores, costs, in_threads
from mmdet_prediction import NAMES, mmdet_steps
from mmengine.config import Config
from random_model import load_image, random_checkpoint
from results import report

from rtmdet_plugin import RTMDetPredictor, load_model
from rtmdet_plugin.export.convert import to_ncnn
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference.benchmark import Latency, latency_steps
from rtmdet_plugin.inference.predictor import cpu_has_bfloat16
from rtmdet_plugin.quantization.quantize import quantize_onnx
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.cpu_cores import measure_cores
from rtmdet_runtime.image import Image

CONFIGS = Path(__file__).parents[1] / 'configs'
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet'
BASES = dict(zip(('mmdet', 'mmdeploy', 'stock_graph'), NAMES, strict=True))
"""Reference of each of the last columns, by row."""


def candidates(
    size: str, folder: Path, image: Image, threads: int, args: argparse.Namespace
) -> dict[tuple[str, str], Callable[[], object]]:
    """Return all steps of a size: mmdet's `predict`, and `predict`, `network` and `post` of our models."""
    config = CONFIGS / f'rtmdet_{size}.py'
    folder.mkdir()
    checkpoint = random_checkpoint(size, folder / 'random.pth', image, args.candidates)
    model = load_model(config, checkpoint)
    file = folder / 'image.png'
    cv2.imwrite(str(file), image)
    for form in ('raw', 'decoded', 'nms'):
        export_onnx(model, folder / f'{form}.onnx', form=form, for_map=True)
    to_ncnn(folder / 'raw.onnx', folder / 'raw.param')
    for target in ('onnxruntime', 'openvino'):
        settings = dict(tolerance=1, target=target, threads=threads)
        quantize_onnx(folder / 'raw.onnx', folder / f'{target}.onnx', [file], **settings)

    def runtime(file: str, **settings) -> RTMDetector:
        return RTMDetector(folder / file, threads=threads, **settings)

    detectors = {
        'ONNX Runtime float32, raw': runtime('raw.onnx'),
        'ONNX Runtime float32, decoded': runtime('decoded.onnx'),
        'ONNX Runtime float32, nms': runtime('nms.onnx'),
        'ONNX Runtime INT8, raw': runtime('onnxruntime.onnx'),
        'OpenVINO float32, raw': runtime('raw.onnx', backend='openvino', precision='float32'),
        'OpenVINO default precision, raw': runtime('raw.onnx', backend='openvino'),
        'OpenVINO INT8, raw': runtime('openvino.onnx', backend='openvino'),
        'ncnn float32, raw': runtime('raw.param'),
    }
    for precision in ('float32', *(['bfloat16'] if cpu_has_bfloat16() else [])):
        for compiled in (False, True) if args.compile else (False,):
            name = f'PyTorch {precision}{", compiled" if compiled else ""}'
            settings = dict(precision=precision, compile=compiled, threads=threads)
            detectors[name] = RTMDetPredictor(config, checkpoint, for_map=True, **settings)
    mmdet_config = Config.fromfile(MMDET_CONFIGS / f'rtmdet_{size}_8xb32-300e_coco.py')
    others = mmdet_steps(mmdet_config, checkpoint, image, folder / 'mmdeploy', args.threads)
    steps = {(name, 'predict'): partial(in_threads, args.threads, step) for name, step in others.items()}
    return steps | latency_steps(detectors, image)


def rows_of(taken: dict[tuple[str, str], Sequence[Cost]]) -> list[dict]:
    """Return the latency of each model in milliseconds, and its share of that of mmdet's."""
    latencies = {key: Latency.of([cost.wall for cost in measured]) for key, measured in taken.items()}
    rows = []
    for name in dict.fromkeys(name for name, _ in taken):
        predict, measured = latencies[name, 'predict'], taken[name, 'predict']
        row = dict(model=name, median_ms=predict.median, p95_ms=predict.p95)
        row |= {'min_ms': 1e3 * min(c.wall for c in measured), 'max_ms': 1e3 * max(c.wall for c in measured)}
        row['cpu_ms'] = Latency.of([cost.cpu for cost in measured]).median
        for part in ('network', 'post'):
            row[f'{part}_ms'] = latencies[name, part].median if (name, part) in latencies else None
        shares = {f'of_{base}': predict.median / latencies[other, 'predict'].median for base, other in BASES.items()}
        rows.append(row | shares)
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--sizes', nargs='+', default=['tiny', 's'])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=30)
    parser.add_argument('--candidates', type=int, default=3000, help='scores above the threshold (default: 3000)')
    parser.add_argument('--compile', action='store_true', help='also measure PyTorch with torch.compile')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    image, rows = load_image(), []
    for size in ['tiny'] if args.quick else args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            for count in args.busy_cores:
                with busy_cores(count) as condition:
                    threads = min(args.threads, measure_cores().free)
                    steps = candidates(size, Path(folder) / condition, image, threads, args)
                    taken = costs(steps, 1 if args.quick else args.rounds)
                rows += [dict(size=size, condition=condition, threads=threads) | row for row in rows_of(taken)]
                report('deploy_latency', rows, save=not args.quick)


if __name__ == '__main__':
    main()
