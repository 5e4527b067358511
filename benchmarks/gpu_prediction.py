"""Measure prediction in PyTorch next to mmdet's on a GPU: eager, with CUDA graphs, compiled; latency, images/s, memory.

    python benchmarks/gpu_prediction.py [SIZE ...] [--compile]

640 px, random weights with 3,000 scores above the threshold, as in deploy_latency.py. `predict` is everything from the
image to the boxes; `network` is only the forward pass on the device, as in the paper's figures for TensorRT. Writes
benchmarks/results/gpu_prediction_<device>_<machine>.json after each size. `--compile` measures only compiled networks,
and writes gpu_prediction_compiled. Without a GPU, the script runs in float32 on the CPU.

Peak memory is that of a call; a CUDA graph holds its memory all the time, so its calls need none.
"""

import contextlib
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from harness import arguments, costs, milliseconds, peak_memory
from mmdet.apis import inference_detector, init_detector
from mmengine.hub import get_config
from random_model import CONFIGS, load_image, random_checkpoint
from results import DEVICE, report

from rtmdet_plugin import RTMDetPredictor
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.image import Image

CUDA = DEVICE == 'cuda'
SIZES = ('tiny', 's', 'm', 'l', 'x') if CUDA else ('tiny',)
BATCH = 32
Step = Callable[[], object]


def our_steps(detector: RTMDetector, image: Image, batch: int) -> dict[str, Step]:
    """Return the measured steps of a predictor."""
    backend = detector.backend
    images, _ = detector.preprocess([image] * batch)
    inputs = torch.from_numpy(images).to(backend.device, backend.dtype).contiguous(memory_format=torch.channels_last)
    return {
        'predict': partial(detector.predict, image),
        'predict, batch': partial(detector.predict, [image] * batch, batch_size=batch),
        'network': partial(backend.compute, inputs[:1].contiguous(memory_format=torch.channels_last)),
        'network, batch': partial(backend.compute, inputs),
    }


def mmdet_steps(size: str, checkpoint: Path, image: Image, batch: int, amp: bool) -> dict[str, Step]:
    """Return the measured steps of mmdet's model; its `inference_detector` predicts images one by one."""
    config = get_config(f'mmdet::rtmdet/rtmdet_{size}_8xb32-300e_coco.py')
    model = init_detector(config, str(checkpoint), palette='random', device=DEVICE)
    inputs = torch.randn(batch, 3, 640, 640, device=DEVICE)

    def run(step: Step) -> None:
        precision = torch.autocast(DEVICE, torch.float16) if amp else contextlib.nullcontext()
        with torch.inference_mode(), precision:
            step()

    steps = {
        'predict': partial(inference_detector, model, image),
        'predict, batch': partial(inference_detector, model, [image] * batch),
        'network': partial(model.forward, inputs[:1], mode='tensor'),
        'network, batch': partial(model.forward, inputs, mode='tensor'),
    }
    return {name: partial(run, step) for name, step in steps.items()}


def variants(size: str, checkpoint: Path, image: Image, batch: int, compile: bool) -> dict[str, dict[str, Step]]:
    """Return the steps of each candidate by name."""
    predictor = partial(RTMDetPredictor, CONFIGS / f'rtmdet_{size}.py', checkpoint, device=DEVICE, for_map=True)
    found = {}
    if compile:
        precision = 'float16' if CUDA else 'float32'
        for graphs in (False, True) if CUDA else (False,):
            detector = predictor(precision=precision, compile=True, cuda_graphs=graphs)
            found[f'ours, {precision}, compiled' + ', CUDA graphs' * graphs] = our_steps(detector, image, batch)
        return found
    for amp in (False, True) if CUDA else (False,):
        found[f'mmdet, {"float16 (autocast)" if amp else "float32"}'] = mmdet_steps(size, checkpoint, image, batch, amp)
    found['ours, float32'] = our_steps(predictor(), image, batch)
    for graphs in (False, True) if CUDA else ():
        detector = predictor(precision='float16', cuda_graphs=graphs)
        found['ours, float16' + ', CUDA graphs' * graphs] = our_steps(detector, image, batch)
    return found


def rows_of(found: dict[str, dict[str, Step]], batch: int, rounds: int) -> list[dict]:
    """Return latency, images/s and peak memory of each candidate."""
    steps = {(name, part): step for name, parts in found.items() for part, step in parts.items()}
    taken = costs(steps, rounds)
    rows = []
    for name, parts in found.items():
        row = dict(how=name, batch=batch)
        for part in parts:
            row |= milliseconds(taken[name, part], f'{part} ')
        for part in ('predict', 'network'):
            row[f'{part} images/s'] = 1e3 / row[f'{part} ms']
            row[f'{part}, batch images/s'] = 1e3 * batch / row[f'{part}, batch ms']
        row['peak MB, batch'] = peak_memory(parts['network, batch'])
        rows.append(row)
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('sizes', nargs='*', metavar='SIZE', help=f'sizes of the model (default: {" ".join(SIZES)})')
    parser.add_argument('--compile', action='store_true', help='measure only compiled networks')
    args = parser.parse_args()
    batch, rounds = (2, 1) if args.quick else (BATCH, 20)
    image, rows = load_image(), []
    for size in (args.sizes or SIZES)[: 1 if args.quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = random_checkpoint(size, Path(folder) / 'random.pth', image)
            found = variants(size, checkpoint, image, batch, args.compile)
        rows += [dict(size=size) | row for row in rows_of(found, batch, rounds)]
        columns = [name for name in rows[0] if not name.endswith((' min', ' max', 'CPU ms'))]
        report('gpu_prediction' + '_compiled' * args.compile, rows, columns, not args.quick)


if __name__ == '__main__':
    main()
