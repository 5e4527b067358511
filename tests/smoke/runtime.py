"""The extra `runtime`: `rtmdet predict` and `RTMDetector` on an image, in an environment without PyTorch.

Runs in a folder with the model.onnx of write_model.py.
"""

import importlib.util
import json
import subprocess

EXPECTED = (('cat', [8, 8, 40, 40]), ('dog', [50, 10, 90, 60]))
"""Objects that the model finds in an image of its input's size: class, box (xyxy in pixels)."""
ABSENT = ('torch', 'mmengine', 'mmcv', 'mmdet', 'onnx')


def main() -> None:
    import cv2
    import numpy as np

    from rtmdet_runtime import RTMDetector

    present = [name for name in ABSENT if importlib.util.find_spec(name)]
    assert not present, f'the extra runtime brings {present}'

    cv2.imwrite('image.png', np.full((64, 96, 3), 128, np.uint8))
    subprocess.run(
        ['rtmdet', 'predict', 'model.onnx', 'image.png', '--json', 'found.json', '--out', 'drawn'], check=True
    )
    with open('found.json') as file:
        (record,) = json.load(file)
    found = sorted(zip(record['classes'], record['boxes'], strict=True))
    assert [name for name, _ in found] == [name for name, _ in EXPECTED], record
    assert np.allclose([box for _, box in found], [box for _, box in EXPECTED], atol=0.1), record
    assert cv2.imread('drawn/image.png').shape == (64, 96, 3)
    assert len(RTMDetector('model.onnx').predict('image.png')) == len(EXPECTED)


if __name__ == '__main__':
    main()
