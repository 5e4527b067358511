"""Compare the numbers that `rtmdet train` chooses with a small search by hand, at the same number of epochs.

    RTMDET_DATA=... RTMDET_WEIGHTS=... python benchmarks/automatic_numbers.py --seeds 0 1 2

Fine-tunes nano from the person weights on four datasets: blood cells (Pascal VOC, 364 images, a fifth for validation),
the persons of 50 images of COCO, the demo's 400 generated images, and 60 generated images of 320 px. Each variant
changes one number of the written config. Runs two trainings at a time, each with one thread. Results are added to
benchmarks/results/automatic_numbers_cpu.json after each run, and runs that it already has are skipped. To save time,
compare all variants with one seed first, then the automatic numbers and the best `--variants` with more.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / 'projects' / 'demo'
RESULTS = ROOT / 'benchmarks' / 'results' / 'automatic_numbers_cpu.json'
EPOCHS = {'blood cells': 8, 'persons': 15, 'demo': 6, '60 images': 60}
"""Dataset: number of epochs; 200 to 300 steps, but 900 for the 60 images: after 300, their AP differs by 0.6 between
seeds."""


def learning_rate(config: Config, factor: float) -> list[str]:
    return [f'optim_wrapper.optimizer.lr={factor * config.optim_wrapper.optimizer.lr}']


def average(config: Config, factor: float) -> list[str]:
    """Return the changes for averaged weights that remember `factor` times as many steps."""
    return [f'default_hooks.ema.momentum={config.default_hooks.ema.momentum / factor}']


def mixing(config: Config, scales: tuple[float, float], mixup: float) -> list[str]:
    """Return the changes for another range of scales in both stages, and another share of images with MixUp."""
    steps = [step.type for step in config.train_dataloader.dataset.pipeline]
    late = [step.type for step in config.default_hooks.pipeline_switch.switch_pipeline]
    mosaic, mix = steps.index('RTMCachedMosaicResizeCrop'), steps.index('RTMCachedMixUp')
    resize = late.index('RTMRandomResizeCrop')
    pipeline, switch = 'train_dataloader.dataset.pipeline', 'default_hooks.pipeline_switch.switch_pipeline'
    text = str(scales).replace(' ', '')
    return [f'{pipeline}.{mosaic}.ratio_range={text}', f'{pipeline}.{mix}.prob={mixup}'] + [
        f'{switch}.{resize}.ratio_range={text}'
    ]


VARIANTS = {
    'automatic': lambda config: [],
    'a tenth of the learning rate': lambda config: learning_rate(config, 0.1),
    'half the learning rate': lambda config: learning_rate(config, 0.5),
    'twice the learning rate': lambda config: learning_rate(config, 2),
    'longer average': lambda config: average(config, 4),
    'scales 0.1 to 2, MixUp 0.5': lambda config: mixing(config, (0.1, 2.0), 0.5),
    'scales 0.5 to 1.5, MixUp 0.25': lambda config: mixing(config, (0.5, 1.5), 0.25),
    'scales 0.75 to 1.25, MixUp 0.1': lambda config: mixing(config, (0.75, 1.25), 0.1),
}
"""Variant: the changes of the config, as for `--set`."""


def datasets(folder: Path) -> dict[str, list[str]]:
    """Generate the datasets that aren't in RTMDET_DATA; return the arguments of `rtmdet train` by dataset."""
    sys.path.insert(0, str(DEMO))
    from generate import Settings, generate

    data = Path(os.environ['RTMDET_DATA'])
    generate(folder / 'demo', Settings())
    large = Settings(train=60, val=40, size=320, max_objects=8, min_diameter=24, max_diameter=150, max_turn=0.8, seed=7)
    generate(folder / 'sixty', large)
    return {
        'blood cells': [str(data / 'bccd' / 'voc_xml')],
        'persons': [str(data / 'coco_tiny'), '--classes', 'person'],
        'demo': [str(folder / 'demo')],
        '60 images': [str(folder / 'sixty')],
    }


def rtmdet_train(folder: Path, arguments: list[str]) -> Path:
    """Run the command in a folder; return the work directory that it made."""
    env = {'OMP_NUM_THREADS': '1', **os.environ}
    before = set((folder / 'work_dirs').glob('*'))
    command = [sys.executable, '-m', 'rtmdet_cli.main', 'train', *arguments]
    subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    (work_dir,) = set((folder / 'work_dirs').glob('*')) - before
    return work_dir


def run(dataset: str, arguments: list[str], variant: str, seed: int) -> dict:
    """Train once; return the settings and the best AP, on validation images, and that of the last epoch."""
    with tempfile.TemporaryDirectory() as folder:
        return _run_in(Path(folder), dataset, arguments, variant, seed)


def _run_in(folder: Path, dataset: str, arguments: list[str], variant: str, seed: int) -> dict:
    weights = str(Path(os.environ['RTMDET_WEIGHTS'], 'rtmdet_nano_person.pth').resolve())
    arguments = [*arguments, '--model', 'nano', '--epochs', str(EPOCHS[dataset]), '--weights', weights]
    dry = rtmdet_train(folder, [*arguments, '--dry-run'])
    changes = VARIANTS[variant](Config.fromfile(dry / 'input' / f'{dry.name}.py'))
    changes.append(f'randomness.seed={seed}')  # and not --seed, which would split the blood cells anew
    work_dir = rtmdet_train(folder, [*arguments, *(word for change in changes for word in ('--set', change))])
    lines = (line for file in work_dir.glob('*/vis_data/scalars.json') for line in file.read_text().splitlines())
    scores = [record['coco/bbox_mAP'] for record in map(json.loads, lines) if 'coco/bbox_mAP' in record]
    return dict(dataset=dataset, variant=variant, seed=seed, changes=changes[:-1], best=max(scores), last=scores[-1])


def print_table(rows: list[dict]) -> None:
    """Print the AP of each variant, and its difference to the automatic numbers with the same seeds."""
    table = Table('dataset', 'variant', 'seeds', 'best AP', 'last AP', 'last AP to automatic')
    for dataset, variant in itertools.product(EPOCHS, VARIANTS):
        own = {row['seed']: row for row in rows if (row['dataset'], row['variant']) == (dataset, variant)}
        base = {row['seed']: row for row in rows if (row['dataset'], row['variant']) == (dataset, 'automatic')}
        common = sorted(own.keys() & base.keys())
        if not own:
            continue
        cells = [_spread([row[key] for row in own.values()]) for key in ('best', 'last')]
        cells.append(_spread([own[seed]['last'] - base[seed]['last'] for seed in common], '+.3f') if common else '')
        table.add_row(dataset, variant, str(len(own)), *cells)
    Console().print(table)


def _spread(values: list[float], form: str = '.3f') -> str:
    spread = f' ± {statistics.stdev(values):.3f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):{form}}{spread}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--datasets', nargs='+', choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, default=list(VARIANTS))
    args = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    known = {(row['dataset'], row['variant'], row['seed']) for row in rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = datasets(folder)
        todo = [
            (dataset, sources[dataset], variant, seed)
            for seed, variant, dataset in itertools.product(args.seeds, args.variants, args.datasets)
            if (dataset, variant, seed) not in known
        ]
        with ThreadPoolExecutor(2) as pool:
            for future in as_completed([pool.submit(run, *task) for task in todo]):
                rows.append(future.result())
                print(rows[-1], flush=True)
                RESULTS.write_text(json.dumps(rows, indent=1) + '\n')
    print_table(rows)


if __name__ == '__main__':
    main()
