"""Measure predictions on a folder of images next to the network alone and next to loops that a user would write.

    python benchmarks/predict_stream.py --size tiny --busy-cores 0 1

The model has random weights that find as much as trained ones (`random_model.py`), at 640 px on ONNX Runtime. Each
candidate processes all images once per round, in turns. `images/s of the network` is the share of the network's own
rate. The memory of the stream is measured on `--many` small images with the smallest model. Writes
benchmarks/results/predict_stream_<device>_<machine>.json.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import supervision as sv
from harness import arguments, busy_cores, compare, costs, milliseconds, resident_mb
from random_model import CONFIGS, load_image, random_checkpoint
from results import report

from rtmdet_plugin import load_model
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_runtime import RTMDetector

NETWORK, STREAM = 'network alone', 'detector(folder)'


def candidates(detector: RTMDetector, folder: Path) -> dict[str, Callable[[], object]]:
    """Return the ways to predict all images of a folder."""
    files = sorted(folder.iterdir())
    inputs, _ = detector.preprocess([files[0]])

    def loop() -> None:
        for file in files:
            detector.predict(file)

    def with_supervision() -> None:
        for file in sv.list_files_with_extensions(folder, ['jpg']):
            detector.predict(cv2.imread(str(file))).to_supervision()

    return {
        NETWORK: lambda: [detector.backend(inputs) for _ in files],
        STREAM: lambda: [len(found) for found in detector(folder)],
        'loop over detector.predict(file)': loop,
        'loop with supervision': with_supervision,
    }


def many_images(detector: RTMDetector, folder: Path, count: int) -> dict:
    """Return the resident memory after a tenth of the images and after all of them, in MB."""
    cv2.imwrite(str(folder / '0.png'), cv2.resize(load_image(), (64, 48)))
    for number in range(1, count):
        shutil.copy(folder / '0.png', folder / f'{number}.png')
    memory = [resident_mb('VmRSS') for _ in detector(folder)]
    return dict(
        images=count, MB_after_a_tenth=memory[count // 10 - 1], MB_at_the_end=memory[-1], MB_highest=max(memory)
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--size', default='tiny', help='size of the model (default: tiny)')
    parser.add_argument('--images', type=int, default=40, help='images per round (default: 40)')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, help="threads of the network (default: the backend's)")
    parser.add_argument('--many', type=int, default=10_000, help='images for the memory (default: 10,000)')
    args = parser.parse_args()
    count, rounds, many = (4, 1, 20) if args.quick else (args.images, args.rounds, args.many)
    image, rows = load_image(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ('images', 'many'):
            (folder / part).mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            noisy = np.clip(image + rng.integers(-3, 4, image.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / 'images' / f'{number}.jpg'), noisy)
        for size, input_size in {args.size: (640, 640), 'nano': (64, 64)}.items():
            model = load_model(CONFIGS / f'rtmdet_{size}.py', random_checkpoint(size, folder / 'random.pth', image))
            export_onnx(model, folder / f'{size}_{input_size[0]}.onnx', form='raw', size=input_size)
        detector = RTMDetector(folder / f'{args.size}_640.onnx', threads=args.threads)
        steps = candidates(detector, folder / 'images')
        for cores in args.busy_cores:
            with busy_cores(cores) as condition:
                measured = costs(steps, rounds)
            for step, found in measured.items():
                share = compare(*([cost.wall for cost in measured[key]] for key in (NETWORK, step)))
                rate = count / median(cost.wall for cost in found)
                row = dict(condition=condition, step=step, images=count, images_per_s=rate, **milliseconds(found))
                rows.append({**row, 'share of the network': share['ratio'], 'share range': share['ratio_range']})
        small = RTMDetector(folder / 'nano_64.onnx', threads=args.threads)
        memory = dict(condition='idle', step=f'{STREAM}: memory', **many_images(small, folder / 'many', many))
    report('predict_stream', [*rows, memory], list(rows[0]) + list(memory)[3:], save=not args.quick)


if __name__ == '__main__':
    main()
