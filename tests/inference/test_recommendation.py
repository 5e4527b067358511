"""The recommendation of `rtmdet benchmark --recommend`."""

import json
import time
from importlib.util import find_spec

import pytest
from click.testing import CliRunner

from rtmdet_cli.candidates import PYTORCH, Candidate
from rtmdet_cli.main import main
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference import recommendation
from rtmdet_plugin.inference.recommendation import fastest, latencies_within, thread_counts


def row(name: str, threads: int, median_ms: float) -> dict:
    return dict(model=name, threads=threads, median_ms=median_ms)


def test_the_fastest_is_chosen():
    rows = [row('a', 1, 50.0), row('b', 2, 30.0), row('c', 4, 29.0), row('d', 1, 31.0), row('e', 2, 29.5)]
    assert fastest(rows)['model'] == 'e'  # within 5 % of c, with fewer threads; b is slower, and d is not within 5 %
    assert fastest(rows[:2])['model'] == 'b'
    with pytest.raises(ValueError, match='rows must have at least one row'):
        fastest([])


@pytest.mark.parametrize(('cores', 'counts'), [(1, (1,)), (2, (1, 2)), (3, (1, 3)), (64, (1, 32, 64))])
def test_numbers_of_threads(cores, counts):
    assert thread_counts(cores) == counts


def test_the_rounds_fit_into_the_time():
    calls = []
    slow = lambda: (calls.append(1), time.sleep(0.05))  # noqa: E731
    assert latencies_within(0, dict(a=slow), 30)['a'].median >= 50
    assert len(calls) == 2 + recommendation.FEWEST_ROUNDS
    calls.clear()
    latencies_within(60, dict(a=slow), 1)
    assert len(calls) == 2 + 1


def test_how_to_use_a_candidate():
    exported = Candidate('m.xml', 'openvino', 'INT8 and bfloat16', 2)
    assert exported.usage() == dict(
        command='rtmdet predict m.xml IMAGES --backend openvino --threads 2',
        python="RTMDetector('m.xml', backend='openvino', threads=2)",
    )
    slower = Candidate('m.xml', 'openvino', 'float32', 2, requested='float32')
    assert slower.usage()['command'].endswith('--threads 2 --precision float32')
    changed = Candidate('my m.xml', 'openvino', 'float32', 2, (('size', (64, 96)), ('score_thr', 0.5)))
    assert changed.usage() == dict(
        command="rtmdet predict 'my m.xml' IMAGES --backend openvino --threads 2 --size 64 96 --score-thr 0.5",
        python="RTMDetector('my m.xml', backend='openvino', threads=2, size=(64, 96), score_thr=0.5)",
    )
    trained = Candidate('m.pth', PYTORCH, 'bfloat16', 1, (('compile', True),), 'bfloat16')
    assert str(trained) == 'm.pth, PyTorch, bfloat16, 1 threads, compile True'
    assert trained.usage() == dict(
        python="RTMDetPredictor(CONFIG, 'm.pth', threads=1, compile=True, precision='bfloat16')"
    )


def call(*arguments: object) -> tuple[dict, str]:
    done = CliRunner().invoke(main, ['benchmark', '--recommend', '--rounds', '1', '--json', '-', *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def test_command_measures_all_installed_backends_and_recommends_one(random_model, tmp_path):
    pytest.importorskip('openvino', reason='openvino is not installed')
    export_onnx(random_model('nano'), tmp_path / 'm.onnx', form='raw', size=(64, 64), opset=17)
    result, said = call(tmp_path / 'm.onnx', '--threads', 1)
    found = [(row['backend'], row['threads']) for row in result['latency']]
    assert set(found) == {('onnxruntime', 1), ('openvino', 1)}
    best = min(result['latency'], key=lambda row: row['median_ms'])
    assert result['fastest']['backend'] == best['backend']
    assert f'Fastest here: {best["model"]} on {best["backend"]}, {best["precision"]}, 1 threads' in said
    assert f'rtmdet predict {best["model"]} IMAGES --backend {best["backend"]} --threads 1' in said
    assert 'INT8 is not measured' in said
    done = CliRunner().invoke(main, ['benchmark', '--recommend', '--batch', '2'])
    assert done.exit_code == 1 and '--batch must not be given with --recommend' in done.output
    if find_spec('tensorrt') is None:
        (tmp_path / 'm.engine').touch()
        done = CliRunner().invoke(main, ['benchmark', '--recommend', str(tmp_path / 'm.engine')])
        assert done.exit_code == 1 and 'm.engine needs tensorrt, not installed here' in done.output


@pytest.mark.slow
def test_command_without_models_measures_random_weights(monkeypatch, shapes_config):
    pytest.importorskip('pnnx', reason='pnnx is not installed')
    monkeypatch.setattr(recommendation, 'CONFIG', str(shapes_config().filename))
    result, said = call('--threads', 1)
    rows = {row['backend']: row for row in result['latency']}
    assert set(rows) >= {'onnxruntime', 'ncnn', 'PyTorch'} and 'Fastest here: rtmdet_tiny.' in said
    assert all(row['median_ms'] > 0 for row in rows.values())
