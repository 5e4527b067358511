"""Latency of one picture at 640 px, in one run: mmdet, mmdet's model through mmdeploy's stock export, and ours.

    python benchmarks/deploy_latency.py --sizes tiny s --threads 2 --rounds 30

All have the same random weights, the same thresholds (the config's: score 0.001, 300 boxes) and the same picture, in
memory: one of coco_tiny where RTMDET_DATA is set, else noise. NMS has work to do as with trained weights, because the
bias of the last convolution is set such that `--candidates` pairs of prior and class have a score above the threshold.
For INT8 the parts that stay in float are those known by their place; which layers join them depends on trained weights.

Every candidate is called once a round, for as many rounds; the figures are medians and 95th percentiles of those.
"""

import argparse
import os
import tempfile
from pathlib import Path

import cv2
import mmdet
import numpy as np
import torch
from harness import write
from mmdet.registry import MODELS
from mmdet_prediction import NAMES, mmdet_steps
from mmengine.config import Config
from mmengine.registry import init_default_scope

from rtmdet_plugin import RTMDetPredictor, load_model
from rtmdet_plugin.export.convert import to_ncnn
from rtmdet_plugin.export.forms import predict_maps
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference.benchmark import latency_rows
from rtmdet_plugin.inference.predictor import cpu_has_bfloat16
from rtmdet_plugin.quantization.quantize import quantize_onnx
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.image import Image, letterbox

CONFIGS = Path(__file__).parents[1] / 'configs'
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet'
BASES = dict(zip(('mmdet', 'mmdeploy', 'stock_graph'), NAMES, strict=True))
"""What the last columns are shares of, by row."""


def a_picture() -> Image:
    """480 x 640, BGR, uint8."""
    if 'RTMDET_DATA' in os.environ:
        folder = Path(os.environ['RTMDET_DATA']) / 'coco_tiny' / 'val2017'
        return cv2.resize(cv2.imread(str(sorted(folder.iterdir())[0])), (640, 480))
    return np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)


def random_checkpoint(size: str, path: Path, picture: Image, candidates: int) -> Path:
    """A config's model with random weights, whose scores are above its threshold so many times on a picture."""
    torch.manual_seed(0)
    init_default_scope('mmdet')
    config = Config.fromfile(CONFIGS / f'rtmdet_{size}.py')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model).eval()
    head, normalization = model.bbox_head, config.model.data_preprocessor
    canvas, _ = letterbox(picture, (640, 640), (114, 114, 114))
    image = (torch.from_numpy(canvas).float() - torch.tensor(normalization.mean)) / torch.tensor(normalization.std)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
        for layer in head.rtm_cls:
            layer.weight.normal_(std=0.3)
        for layer in head.rtm_reg:
            layer.weight.normal_(std=0.1)
            layer.bias.fill_(0.7 if head.exp_on_reg else 2.0)  # boxes of about four cells
        logits, _ = predict_maps(model, image.permute(2, 0, 1)[None])
        lowest = torch.cat([level.flatten() for level in logits]).topk(candidates).values[-1]
        threshold = torch.tensor(config.model.test_cfg.score_thr).logit()
        for layer in head.rtm_cls:
            layer.bias += threshold - lowest
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def rows_of(size: str, folder: Path, picture: Image, args: argparse.Namespace) -> list[dict]:
    """Latencies of everything that is measured for a size."""
    config, threads = CONFIGS / f'rtmdet_{size}.py', args.threads
    checkpoint = random_checkpoint(size, folder / 'random.pth', picture, args.candidates)
    model = load_model(config, checkpoint)
    image = folder / 'picture.png'
    cv2.imwrite(str(image), picture)
    for form in ('raw', 'decoded', 'nms'):
        export_onnx(model, folder / f'{form}.onnx', form=form)
    to_ncnn(folder / 'raw.onnx', folder / 'raw.param')
    for target in ('onnxruntime', 'openvino'):
        settings = dict(tolerance=1, target=target, threads=threads)
        quantize_onnx(folder / 'raw.onnx', folder / f'{target}.onnx', [image], **settings)

    def runtime(file: str, **settings) -> RTMDetector:
        return RTMDetector(folder / file, threads=threads, **settings)

    detectors = {
        'ONNX Runtime float32, raw': runtime('raw.onnx'),
        'ONNX Runtime float32, decoded': runtime('decoded.onnx'),
        'ONNX Runtime float32, nms': runtime('nms.onnx'),
        'ONNX Runtime INT8, raw': runtime('onnxruntime.onnx'),
        'OpenVINO float32, raw': runtime('raw.onnx', backend='openvino'),
        'OpenVINO default precision, raw': runtime('raw.onnx', backend='openvino', reduced_precision=True),
        'OpenVINO INT8, raw': runtime('openvino.onnx', backend='openvino', reduced_precision=True),
        'ncnn float32, raw': runtime('raw.param'),
    }
    for precision in ('float32', *(['bfloat16'] if cpu_has_bfloat16() else [])):
        for compiled in (False, True) if args.compile else (False,):
            name = f'PyTorch {precision}{", compiled" if compiled else ""}'
            detectors[name] = RTMDetPredictor(config, checkpoint, precision=precision, compile=compiled)
    if torch.cuda.is_available():
        for graphs in (False, True):
            name = f'PyTorch float16, GPU{", CUDA graphs" if graphs else ""}'
            detectors[name] = RTMDetPredictor(
                config, checkpoint, precision='float16', cuda_graphs=graphs, device='cuda'
            )
    mmdet_config = Config.fromfile(MMDET_CONFIGS / f'rtmdet_{size}_8xb32-300e_coco.py')
    others = mmdet_steps(mmdet_config, checkpoint, picture, folder / 'mmdeploy', threads)
    return latency_rows(detectors, picture, args.rounds, others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', nargs='+', default=['tiny', 's'])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=30)
    parser.add_argument('--candidates', type=int, default=3000, help='scores above the threshold (default: 3000)')
    parser.add_argument('--compile', action='store_true', help='also PyTorch with torch.compile')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    picture, rows = a_picture(), []
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            found = rows_of(size, Path(folder), picture, args)
        medians = {row['model']: row['median_ms'] for row in found}
        for row in found:
            shares = {f'of_{base}': row['median_ms'] / medians[name] for base, name in BASES.items()}
            rows.append(dict(size=size) | row | shares)
    write('deploy_latency', rows, list(rows[0]))


if __name__ == '__main__':
    main()
