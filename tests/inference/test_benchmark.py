"""The measurements of `rtmdet benchmark`."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from rtmdet_cli.main import main
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference.benchmark import Latency, latency_rows, take_turns, throughput_rows
from rtmdet_runtime import RTMDetector

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def model(random_model, tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'm.onnx'
    export_onnx(random_model('nano'), path, form='raw', size=(96, 96), dynamic='batch', opset=17)
    return path


def test_candidates_take_turns_and_the_warm_up_does_not_count():
    calls = []

    def slow_at_first() -> None:
        calls.append('a')
        time.sleep(0.2 if len(calls) == 1 else 0.001)

    seconds = take_turns(dict(a=slow_at_first, b=lambda: calls.append('b')), rounds=3, warmup=1)
    assert calls == ['a', 'b'] * 4
    assert len(seconds['a']) == len(seconds['b']) == 3
    assert max(seconds['a']) < 0.15
    with pytest.raises(ValueError, match='rounds must be at least 1, got 0'):
        take_turns({}, 0)


def test_median_and_percentile_in_milliseconds():
    latency = Latency.of([0.001] * 19 + [0.1])
    assert latency.median == 1 and 1 < latency.p95 < 100


def test_rows(model):
    detector, image = RTMDetector(model, threads=1), np.full((60, 80, 3), 90, np.uint8)
    (row,) = latency_rows({'m': detector}, image, rounds=3)
    assert row['model'] == 'm' and min(row[name] for name in ('median_ms', 'p95_ms', 'network_ms', 'post_ms')) > 0
    rows = throughput_rows({'m': detector}, image, [1, 2], rounds=2)
    assert [row['batch'] for row in rows] == [1, 2] and all(row['images_per_s'] > 0 for row in rows)


def test_command_writes_json(model, tmp_path):
    arguments = ['benchmark', model, '--rounds', 2, '--threads', 1, '--batch', 1, '--json', tmp_path / 'f' / 'r.json']
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / 'f' / 'r.json').read_text())
    assert [row['model'] for row in result['latency']] == [f'{model}, onnxruntime, float32, 1 threads']
    assert result['throughput'][0]['batch'] == 1
    done = CliRunner().invoke(main, ['benchmark', str(tmp_path / 'none.onnx')])
    assert done.exit_code == 1 and 'no such model' in done.output


def test_command_measures_a_checkpoint(random_model, tmp_path):
    config = CONFIGS / 'rtmdet_nano.py'
    torch.save(dict(state_dict=random_model('nano').state_dict(), meta={}), tmp_path / 'w.pth')

    def call(*arguments) -> tuple[int, str]:
        done = CliRunner().invoke(main, ['benchmark', '--rounds', '1', *map(str, arguments)])
        return done.exit_code, done.output

    code, said = call('--torch', config, tmp_path / 'w.pth', '--size', 96, 96, '--json', tmp_path / 'r.json')
    assert code == 0, said
    (row,) = json.loads((tmp_path / 'r.json').read_text())['latency']
    assert (
        row['model'] == f'{tmp_path / "w.pth"}, PyTorch, float32, {torch.get_num_threads()} threads, size 96 96'
        and row['network_ms'] > 0
    )
    code, said = call()
    assert code == 1 and 'MODELS must be at least one file' in said
    code, said = call('--torch', config, tmp_path / 'none.pth')
    assert code == 1 and 'no such checkpoint' in said


def test_command_measures_each_selected_backend(model, tmp_path):
    pytest.importorskip('openvino', reason='openvino is not installed')

    def call(*arguments) -> tuple[int, str]:
        done = CliRunner().invoke(main, ['benchmark', *map(str, arguments), '--rounds', '1', '--threads', '1'])
        return done.exit_code, done.output

    backends = '--backend', 'openvino', '--backend', 'onnxruntime', '--backend', 'ncnn'
    code, said = call(model, *backends, '--precision', 'auto', '--precision', 'float32', '--json', tmp_path / 'r.json')
    assert code == 0, said
    names = [
        row['model'].removeprefix(f'{model}, ') for row in json.loads((tmp_path / 'r.json').read_text())['latency']
    ]
    own = RTMDetector(model, backend='openvino', threads=1).backend.precision
    chosen = dict.fromkeys(['onnxruntime, float32', f'openvino, {own}', 'openvino, float32'])
    assert names == [f'{name}, 1 threads' for name in chosen]
    code, said = call(model, '--backend', 'ncnn')
    assert code == 1 and '--backend must be onnxruntime or openvino for' in said


def test_a_fixed_batch_is_named(random_model, tmp_path):
    fixed = tmp_path / 'fixed.onnx'
    export_onnx(random_model('nano'), fixed, form='raw', size=(64, 64), opset=17)
    arguments = ['benchmark', str(fixed), '--rounds', '1', '--batch', '8', '--json', '-']
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert f'{fixed}, onnxruntime, float32: --batch 8 is not measured' in done.stderr.splitlines()[0]
    result = json.loads(done.stdout)
    assert [row['batch'] for row in result['throughput']] == [1]
    figures = [value for row in result['latency'] + result['throughput'] for value in row.values()]
    assert all(value == round(value, 3) for value in figures if isinstance(value, float))


def test_no_model_is_replaced(model, tmp_path):
    before = model.read_bytes()
    done = CliRunner().invoke(main, ['benchmark', '--json', str(model), str(tmp_path / 'b.onnx')])
    assert done.exit_code == 1 and 'must end in .json' in done.stderr and model.read_bytes() == before
