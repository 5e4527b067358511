"""Draw how many times as fast as mmdet this package is, from the JSON files of the other benchmarks.

    python benchmarks/plot_speed.py

Needs matplotlib only. Reads benchmarks/results, writes docs/images/speed.png. The bars of several machines are next to
each other; a machine needs the results of all four benchmarks, and only those measured on idle cores are drawn.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402  the backend comes first

RESULTS = Path(__file__).parent / 'results'
OUT = Path(__file__).parents[1] / 'docs' / 'images' / 'speed.png'
COLOURS, GREY = ('#0072B2', '#E69F00', '#009E73', '#CC79A7'), '#999999'
REFERENCE = 'mmdet through mmdeploy'
"""The bar that isn't ours."""
SOURCES = ('data_pipeline', 'loss', 'train_step', 'deploy_latency')
FIRST = 'AMD EPYC'
"""Machine of the results without a machine in their names."""

Bars = dict[str, float]
"""Label: how many times as fast as mmdet."""


def result_file(name: str, machine: str) -> Path:
    """Return the file of a benchmark's results on a machine."""
    return RESULTS / (f'{name}_cpu.json' if machine == FIRST else f'{name}_cpu_{machine}.json')


def machines() -> list[str]:
    """Return the machines that have the results of all benchmarks."""
    found = [path.stem.removeprefix('loss_cpu').lstrip('_') or FIRST for path in sorted(RESULTS.glob('loss_cpu*.json'))]
    return [machine for machine in found if all(result_file(name, machine).is_file() for name in SOURCES)]


def load(name: str, machine: str) -> list[dict]:
    """Return the rows of a benchmark that were measured on idle cores; the first results don't say so."""
    content = json.loads(result_file(name, machine).read_text())
    return [row for row in content.get('rows', [content]) if row.get('condition', 'idle') == 'idle']


def find_row(rows: list[dict], **values: object) -> dict:
    """Return the one row with these values.

    Raises:
        ValueError: if no row or more than one has them.
    """
    found = [row for row in rows if all(row[key] == value for key, value in values.items())]
    if len(found) != 1:
        raise ValueError(f'results must have one row with {values}, got {len(found)}; run the benchmark again')
    return found[0]


def data_bars(machine: str) -> Bars:
    """Compare the training pipelines, one thread."""
    steps = find_row(load('data_pipeline', machine))['steps']
    return {name: steps[name]['ratio'] for name in ('stage 1', 'stage 2')}


def loss_bars(machine: str) -> Bars:
    """Compare assignment, loss and gradients for a batch of 4."""
    rows = load('loss', machine)
    return {f'{count} objects per image': find_row(rows, batch=4, objects=count)['times faster'] for count in (10, 100)}


def step_bars(machine: str) -> Bars:
    """Compare training steps with mmdet's in the same precision."""
    rows = load('train_step', machine)
    ours = {
        'float32': ('float32', 'float32'),
        'float32, channels last': ('float32, channels last', 'float32'),
        'bfloat16, channels last': ('AMP, channels last', 'AMP'),
    }
    return {
        label: find_row(rows, size='tiny', model='ours', how=how)[f'times mmdet, {precision}']
        for label, (how, precision) in ours.items()
        if any(row['how'] == how for row in rows)  # CPUs without bfloat16 have no such row
    }


def prediction_bars(machine: str) -> Bars:
    """Compare the prediction of one image with `inference_detector`, which runs in float32."""
    rows = load('deploy_latency', machine)
    models = {
        REFERENCE: 'mmdet, mmdeploy stock, its Python',
        'PyTorch float32': 'PyTorch float32',
        'ONNX Runtime float32': 'ONNX Runtime float32, raw',
        'OpenVINO float32': 'OpenVINO float32, raw',
        'OpenVINO INT8': 'OpenVINO INT8, raw',
    }
    return {label: 1 / find_row(rows, size='tiny', model=model)['of_mmdet'] for label, model in models.items()}


def offset(label: str, machine: str, machines: dict[str, Bars]) -> float:
    """Return the distance of a bar from the middle of its label, in bars; machines without the label leave no gap."""
    having = [name for name, bars in machines.items() if label in bars]
    return having.index(machine) - (len(having) - 1) / 2


def title_of(machine: str) -> str:
    """Return the name of a machine for the legend: `xeon-avx512` becomes `Xeon AVX512`."""
    parts = machine.split('-')
    return ' '.join(part.upper() if part.startswith(('avx', 'amx')) else part[0].upper() + part[1:] for part in parts)


def draw(groups: dict[str, dict[str, Bars]], path: Path) -> None:
    """Draw one panel of horizontal bars per group, with the bars of each machine; all share a logarithmic axis."""
    count = max(map(len, groups.values()))
    figure, panels = plt.subplots(
        len(groups),
        figsize=(8, 5.2 * (1 + 0.6 * (count - 1))),
        sharex=True,
        layout='constrained',
        height_ratios=[max(map(len, bars.values())) + 0.6 for bars in groups.values()],
    )
    for axes, (title, machines) in zip(panels, groups.items(), strict=True):
        labels = list(dict.fromkeys(label for bars in machines.values() for label in bars))
        for i, (machine, bars) in enumerate(machines.items()):
            height = 0.7 / count
            places = [labels.index(label) + height * offset(label, machine, machines) for label in bars]
            name = title_of(machine)
            drawn = axes.barh(places, [ratio - 1 for ratio in bars.values()], left=1, height=height, label=name)
            for label, bar in zip(bars, drawn, strict=True):
                bar.set_color(GREY if label == REFERENCE else COLOURS[i])
            axes.bar_label(drawn, [f'{ratio:.3g}x' for ratio in bars.values()], padding=4)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_title(title, loc='left', fontsize='medium', fontweight='bold')
        axes.set_xscale('log')
        axes.invert_yaxis()
        axes.axvline(1, color='black')
        axes.spines[['top', 'right', 'bottom']].set_visible(False)
        axes.tick_params(axis='both', which='both', length=0)
    if count > 1:
        panels[0].legend(loc='lower right', frameon=False)
    panels[-1].set_xlim(1, 100)
    panels[-1].set_xticks([1, 2, 5, 10, 20, 50], ['1 (mmdet)', '2', '5', '10', '20', '50'])
    panels[-1].set_xticks([], minor=True)
    figure.supxlabel('times as fast as mmdet 3.3.0 on a CPU (logarithmic)', fontsize='medium')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, metadata={'Software': None})


def main() -> None:
    """Draw the chart and print its path."""
    groups = {
        'Training pipeline, RTMDet-s, 640 px': data_bars,
        'Assignment and loss, RTMDet-tiny, batch 4': loss_bars,
        'Training step, RTMDet-tiny (mmdet in the same precision)': step_bars,
        'Prediction of one image, RTMDet-tiny (mmdet in float32)': prediction_bars,
    }
    found = machines()
    draw({title: {machine: bars(machine) for machine in found} for title, bars in groups.items()}, OUT)
    print(OUT)


if __name__ == '__main__':
    main()
