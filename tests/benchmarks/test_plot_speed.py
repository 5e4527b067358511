"""benchmarks/plot_speed.py: which results are drawn."""

import json

import plot_speed
import pytest


def write(folder, name, rows):
    (folder / f'{name}.json').write_text(json.dumps(dict(rows=rows)))


def test_machines_with_all_results(tmp_path, monkeypatch):
    monkeypatch.setattr(plot_speed, 'RESULTS', tmp_path)
    for suffix in ('', '_xeon-amx'):
        for name in plot_speed.SOURCES:
            write(tmp_path, f'{name}_cpu{suffix}', [])
    write(tmp_path, 'loss_cpu_core-avx2', [])
    assert plot_speed.machines() == [plot_speed.FIRST, 'xeon-amx']


def test_only_idle_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(plot_speed, 'RESULTS', tmp_path)
    rows = [dict(batch=4, objects=count, condition='idle') | {'times faster': count / 5} for count in (10, 100)]
    busy = [row | {'condition': '1 busy core', 'times faster': 1} for row in rows]
    write(tmp_path, 'loss_cpu_xeon-amx', rows + busy)
    write(tmp_path, 'loss_cpu', [{k: v for k, v in row.items() if k != 'condition'} for row in rows])
    expected = {'10 objects per image': 2, '100 objects per image': 20}
    assert plot_speed.loss_bars('xeon-amx') == plot_speed.loss_bars(plot_speed.FIRST) == expected
    with pytest.raises(ValueError, match='must have one row with .*, got 0'):
        plot_speed.find_row(rows, batch=5)


def test_the_shipped_results_are_drawn(tmp_path):
    bars = plot_speed.data_bars(plot_speed.FIRST), plot_speed.step_bars(plot_speed.FIRST)
    groups = {'one': {'a': bars[0], 'b': bars[0]}, 'two': {'a': bars[1], 'b': bars[1]}}
    plot_speed.draw(groups, tmp_path / 'speed.png')
    assert (tmp_path / 'speed.png').stat().st_size > 10_000
    assert plot_speed.FIRST in plot_speed.machines() and all(plot_speed.prediction_bars(plot_speed.FIRST).values())
