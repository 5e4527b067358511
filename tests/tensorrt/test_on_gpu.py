"""Building and running real engines, on a machine with an NVIDIA GPU. Not yet run for lack of one.

pip install tensorrt cuda-bindings
pytest tests/tensorrt/test_on_gpu.py
"""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from samples import SHAPES_CONFIG, SHAPES_WEIGHTS

REASON = 'tensorrt is not installed; it needs an NVIDIA GPU'
if not hasattr(pytest.importorskip('tensorrt', reason=REASON), 'Builder'):
    pytest.skip(REASON, allow_module_level=True)  # the import has found this folder, which has the same name
pytest.importorskip('cuda.bindings.runtime', reason='cuda-bindings is not installed; it needs an NVIDIA GPU')

from rtmdet_cli.main import main  # noqa: E402
from rtmdet_plugin.export.onnx_export import export_onnx  # noqa: E402
from rtmdet_plugin.inference.evaluation import evaluate_checkpoint  # noqa: E402
from rtmdet_plugin.tensorrt.engine import build_engine, input_shapes  # noqa: E402
from rtmdet_runtime import RTMDetector  # noqa: E402

pytestmark = pytest.mark.gpu
TOLERANCES = dict(fp32=(0.1, 1e-3, 0.98), fp16=(2.0, 0.05, 0.9))
"""Tolerances in pixels and score, and the share of boxes within them: one other decision of NMS changes a box."""


def call(*arguments) -> str:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope='module')
def exported(shapes_model, tmp_path_factory):
    """A function from an export format to its file, for any batch."""
    folder = tmp_path_factory.mktemp('exported')

    def get(form: str) -> Path:
        path = folder / f'{form}.onnx'
        if not path.exists():
            export_onnx(shapes_model, path, form=form, dynamic='batch', score_thr=0.05, max_per_img=100)
        return path

    return get


@pytest.fixture(scope='module')
def pictures(shape_images) -> list[Path]:
    return shape_images


def assert_same_boxes(found: list, expected: list, pixels: float, score: float, share: float) -> None:
    """Every confident box of one list of results is in the other; boxes near the threshold needn't be."""
    there = []
    for one, other in (*zip(found, expected, strict=True), *zip(expected, found, strict=True)):
        seen = one.above(0.3)
        distance = np.abs(seen.boxes[:, None] - other.boxes).max(2)
        there += ((distance < pixels) & (np.abs(seen.scores[:, None] - other.scores) < score)).any(1).tolist()
    assert len(there) > 40, 'too few boxes to compare'
    assert np.mean(there) >= share


@pytest.mark.parametrize('precision', TOLERANCES)
@pytest.mark.parametrize('form', ['raw', 'decoded', 'trt'])
def test_boxes_are_those_of_onnxruntime(exported, pictures, tmp_path, form, precision):
    path = exported(form)
    build_engine(path, tmp_path / 'm.engine', precision=precision, shapes=input_shapes(path, (1, 4, 8)))
    ours, theirs = RTMDetector(tmp_path / 'm.engine'), RTMDetector(exported('decoded'))
    expected = theirs.predict(pictures)
    for batch_size in (1, 8):
        assert_same_boxes(ours.predict(pictures, batch_size), expected, *TOLERANCES[precision])


def test_int8_keeps_its_ap(shapes, shapes_config, tmp_path, monkeypatch):
    """With the commands of docs/deploy.md."""
    monkeypatch.setenv('RTMDET_DEMO_DATA', str(shapes))
    expected, _ = evaluate_checkpoint(shapes_config(), SHAPES_WEIGHTS, tmp_path)
    files = [tmp_path / name for name in ('m.onnx', 'int8.onnx', 'm.engine')]
    call('export', SHAPES_CONFIG, SHAPES_WEIGHTS, '-o', files[0], '--form', 'trt', '--for-map')
    call('quantize', files[0], shapes / 'train', '-o', files[1])
    call('engine', files[1], '-o', files[2], '--precision', 'int8')
    call('test', SHAPES_CONFIG, files[2], '--json', tmp_path / 'ap.json')
    assert json.loads((tmp_path / 'ap.json').read_text())['coco/bbox_mAP'] > expected['coco/bbox_mAP'] - 0.03
    call('benchmark', files[2], '--rounds', 5, '--json', tmp_path / 'ms.json')
    (row,) = json.loads((tmp_path / 'ms.json').read_text())['latency']
    assert row['model'] == f'{files[2]}, TensorRT' and 0 < row['network_ms'] <= row['p95_ms']


@pytest.mark.skipif(shutil.which('trtexec') is None, reason='trtexec is not on the path')
def test_trtexec_builds_what_was_prepared(exported, pictures, tmp_path):
    said = call('engine', exported('trt'), '-o', tmp_path / 'm.engine', '--for-trtexec')
    subprocess.run(shlex.split(said), check=True, timeout=1800)
    found, expected = (RTMDetector(path).predict(pictures) for path in (tmp_path / 'm.engine', exported('decoded')))
    assert_same_boxes(found, expected, *TOLERANCES['fp16'])
