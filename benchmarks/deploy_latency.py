"""Measure the latency of one image at 640 px: mmdet, mmdet's model through mmdeploy's stock export, and our models.

    python benchmarks/deploy_latency.py --sizes tiny s --threads 2 --rounds 30

All run in one process with the same random weights, the same thresholds (the config's: score 0.001, 300 boxes) and the
same image in memory: one of coco_tiny if RTMDET_DATA is set, otherwise noise. NMS has as much work as with trained
weights, because the bias of the last convolution is set such that `--candidates` pairs of prior and class have a score
above the threshold. In the INT8 models only the parts that are known from the architecture stay in float; sensitive
layers would depend on trained weights.

Every candidate is called once per round; the figures are medians and 95th percentiles over the rounds.
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
"""Reference of each of the last columns, by row."""


def load_image() -> Image:
    """Return an image of 480 x 640, BGR, uint8."""
    if 'RTMDET_DATA' in os.environ:
        folder = Path(os.environ['RTMDET_DATA']) / 'coco_tiny' / 'val2017'
        return cv2.resize(cv2.imread(str(sorted(folder.iterdir())[0])), (640, 480))
    return np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)


def random_checkpoint(size: str, path: Path, image: Image, candidates: int) -> Path:
    """Save random weights of a config's model that give `candidates` scores above its threshold on an image."""
    torch.manual_seed(0)
    init_default_scope('mmdet')
    config = Config.fromfile(CONFIGS / f'rtmdet_{size}.py')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model).eval()
    head, normalization = model.bbox_head, config.model.data_preprocessor
    canvas, _ = letterbox(image, (640, 640), (114, 114, 114))
    inputs = (torch.from_numpy(canvas).float() - torch.tensor(normalization.mean)) / torch.tensor(normalization.std)
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
        logits, _ = predict_maps(model, inputs.permute(2, 0, 1)[None])
        lowest = torch.cat([level.flatten() for level in logits]).topk(candidates).values[-1]
        threshold = torch.tensor(config.model.test_cfg.score_thr).logit()
        for layer in head.rtm_cls:
            layer.bias += threshold - lowest
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def rows_of(size: str, folder: Path, image: Image, args: argparse.Namespace) -> list[dict]:
    """Measure the latency of all models of a size."""
    config, threads = CONFIGS / f'rtmdet_{size}.py', args.threads
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
            detectors[name] = RTMDetPredictor(config, checkpoint, precision=precision, compile=compiled, for_map=True)
    if torch.cuda.is_available():
        for graphs in (False, True):
            name = f'PyTorch float16, GPU{", CUDA graphs" if graphs else ""}'
            detectors[name] = RTMDetPredictor(
                config, checkpoint, precision='float16', cuda_graphs=graphs, device='cuda', for_map=True
            )
    mmdet_config = Config.fromfile(MMDET_CONFIGS / f'rtmdet_{size}_8xb32-300e_coco.py')
    others = mmdet_steps(mmdet_config, checkpoint, image, folder / 'mmdeploy', threads)
    return latency_rows(detectors, image, args.rounds, others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', nargs='+', default=['tiny', 's'])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=30)
    parser.add_argument('--candidates', type=int, default=3000, help='scores above the threshold (default: 3000)')
    parser.add_argument('--compile', action='store_true', help='also measure PyTorch with torch.compile')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    image, rows = load_image(), []
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            found = rows_of(size, Path(folder), image, args)
        medians = {row['model']: row['median_ms'] for row in found}
        for row in found:
            shares = {f'of_{base}': row['median_ms'] / medians[name] for base, name in BASES.items()}
            rows.append(dict(size=size) | row | shares)
    write('deploy_latency', rows, list(rows[0]))


if __name__ == '__main__':
    main()
