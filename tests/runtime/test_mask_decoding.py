"""Masks from the network's outputs, of a model whose only object is a diamond, in each export format."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_info import INFO

from rtmdet_runtime import ModelInfo, RTMDetector, mask_decoding
from rtmdet_runtime.image import Placement

INS = replace(INFO, mask_stride=8)  # 64 x 96 pixels: 96 priors with stride 8, 24 with stride 16, 6 with stride 32
PRIOR, CENTRE, RADIUS = 96 + 2 * 6 + 3, (48, 32), 20  # the prior of stride 16 in row 2, column 3; x and y in pixels
SHAPES = {
    name: shape for form in ('raw', 'decoded', 'nms') for name, shape in replace(INS, form=form).output_shapes.items()
}


def diamond() -> np.ndarray:
    """Return the kernel of a mask with the logits RADIUS / 128 - |x| - |y|; 128 pixels are the unit at stride 16."""
    first, third = np.zeros((8, 10)), np.zeros(8)
    first[:4, :2] = [[1, 0], [-1, 0], [0, 1], [0, -1]]
    third[:4] = -1
    parts = [first.ravel(), np.eye(8).ravel(), third, np.zeros(16), [RADIUS / 128]]
    return np.concatenate(parts).astype(np.float32)


def outputs_of(form: str) -> list[np.ndarray]:
    """Return the outputs of a network that finds one dog, at `PRIOR`."""
    outputs = {
        name: np.zeros([10 if side is None else side for side in shape], np.float32) for name, shape in SHAPES.items()
    }
    info = replace(INS, form=form)
    if form == 'raw':
        for stride in info.strides:
            outputs[f'cls_{stride}'] -= 9
        outputs['cls_16'][1, 2, 3] = 9
        outputs['reg_16'][:, 2, 3] = RADIUS / 16
        outputs['kernel_16'][:, 2, 3] = diamond()
    elif form == 'decoded':
        outputs['boxes'][PRIOR] = 28, 12, 68, 52
        outputs['scores'][PRIOR, 1] = 0.99
        outputs['kernels'][PRIOR] = diamond()
    else:
        outputs['labels'] -= 1
        outputs['dets'][4], outputs['labels'][4] = (28, 12, 68, 52, 0.99), 1
        y, x = np.indices(info.level_sizes[0]) * 8
        outputs['mask_logits'][4] = RADIUS - abs(x - CENTRE[0]) - abs(y - CENTRE[1])
    return [outputs[name] for name in info.outputs]


class Loaded:
    """A backend that finds the same in each image."""

    batch = size = None
    precision = 'float32'

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        return [np.repeat(output[None], len(images), axis=0) for output in outputs_of(self.info.form)]


@pytest.mark.parametrize('form', ['raw', 'decoded', 'nms'])
def test_masks_in_pixels_of_the_image(form):
    detector = RTMDetector(Loaded(replace(INS, form=form)))
    sizes = [(64, 96), (48, 96), (1365, 2048), (32, 40)]
    for size, found in zip(sizes, detector.predict([np.zeros((*size, 3), np.uint8) for size in sizes]), strict=True):
        scale = min(64 / size[0], 96 / size[1])
        assert found.names == ['dog'] and found.masks.size == size
        np.testing.assert_allclose(found.boxes[0], np.array([28, 12, 68, 52]) / scale, rtol=2e-3)
        y, x = (np.indices(size) + 0.5) * scale
        # The logits of a cell are those at its upper left corner, and are shown at its centre, 4 pixels further.
        distance = abs(x - CENTRE[0] - 4) + abs(y - CENTRE[1] - 4)
        (mask,) = found.masks.numpy()
        assert mask[distance < RADIUS - 4].all() and not mask[distance > RADIUS + 4].any()
    assert (
        len(
            RTMDetector(Loaded(replace(INS, form=form)), classes=['cat']).predict(np.zeros((64, 96, 3), np.uint8)).masks
        )
        == 0
    )


def test_a_higher_threshold_gives_a_smaller_mask():
    outputs, placement = outputs_of('nms'), Placement((0.1, 0.1), (640, 960))
    areas = []
    for mask_thr in (0.1, 0.5, 0.9):
        masks = mask_decoding.decode_masks(
            outputs, np.array([4]), replace(INS, form='nms', mask_thr=mask_thr), placement
        )
        areas.append(masks.areas[0])
    # A diamond of the radius r has 2 * r ** 2 pixels; scores of 0.1 and 0.9 are logits of -2.2 and 2.2.
    assert areas == pytest.approx([2 * (10 * (RADIUS + shift)) ** 2 for shift in (2.2, 0, -2.2)], rel=0.02)


@pytest.mark.parametrize('form', ['raw', 'decoded'])
def test_priors_are_found_by_their_index(form):
    info = replace(INS, form=form)
    priors = np.array([125, 0, PRIOR, 95, 96, 120])
    points = mask_decoding.points_of(priors, info)
    assert points.tolist() == [[64, 32, 32], [0, 0, 8], [48, 32, 16], [88, 56, 8], [0, 0, 16], [0, 0, 32]]
    kernels = mask_decoding.kernels_of(outputs_of(form), priors, info)
    np.testing.assert_array_equal(kernels, diamond() * (priors == PRIOR)[:, None])


def test_many_masks_are_decoded_in_parts(monkeypatch):
    info, placement = replace(INS, form='decoded'), Placement((1, 1), (64, 96))
    rng = np.random.default_rng(0)
    outputs = [rng.normal(size=shape).astype(np.float32) for shape in info.output_shapes.values()]
    rows = rng.integers(0, len(outputs[0]), 20)
    expected = mask_decoding.decode_masks(outputs, rows, info, placement)
    counts = []
    whole = mask_decoding.mask_logits
    monkeypatch.setattr(mask_decoding, 'mask_logits', lambda *args: counts.append(len(args[1])) or whole(*args))
    monkeypatch.setattr(mask_decoding, 'MAX_CELLS', 3 * 8 * 12)
    found = mask_decoding.decode_masks(outputs, rows, info, placement)
    assert counts == [3] * 6 + [2]
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_the_function_of_the_page_computes_the_same():
    page = (Path(__file__).parents[2] / 'docs' / 'deploy.md').read_text()
    (code,) = re.findall(r'```python\n(import numpy as np\n\n\ndef mask_logits.*?)```', page, flags=re.DOTALL)
    exec(code, names := {})
    rng = np.random.default_rng(0)
    prototypes, kernels = rng.normal(size=(8, 8, 12)), rng.normal(size=(3, 169))
    priors = np.array([[88, 56, 8], [48, 32, 16], [0, 32, 32]])
    expected = mask_decoding.mask_logits(*(values.astype(np.float32) for values in (prototypes, kernels, priors)), 8)
    np.testing.assert_allclose(names['mask_logits'](prototypes, kernels, priors), expected, rtol=1e-4, atol=1e-4)
