"""Draw a finished run: predictions next to the ground truth, and the curves of loss and AP.

Works with any config of a COCO-style dataset, from the repository's root:

    python projects/demo/report.py CONFIG --work-dir work_dirs/NAME

It writes predictions.png and curves.png into the work directory and prints them with the run's best figures.
"""

import argparse
import json
import math
import warnings
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use('Agg')

from matplotlib import pyplot as plt  # noqa: E402  the backend comes first
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.patches import Patch, Rectangle  # noqa: E402
from mmengine.config import Config  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

# Okabe and Ito's palette: distinguishable with every kind of colour vision.
COLOURS = ('#E69F00', '#56B4E9', '#009E73', '#D55E00', '#CC79A7', '#F0E442', '#0072B2')
AP, AP50 = 'coco/bbox_mAP', 'coco/bbox_mAP_50'


def latest(folder: Path, pattern: str) -> Path:
    """Return the last match by name; names that mmengine writes begin with the time.

    Raises:
        FileNotFoundError: if nothing matches.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f'{folder} has no {pattern}; the run may have stopped too early')
    return found[-1]


def find_checkpoint(work_dir: Path) -> Path:
    """Return the best checkpoint of a run, or its last one if none was marked as best."""
    for pattern in ('best_*.pth', 'last_checkpoint'):
        found = sorted(work_dir.glob(pattern), key=lambda path: path.stat().st_mtime)
        if found:
            return Path(found[-1].read_text()) if pattern == 'last_checkpoint' else found[-1]
    raise FileNotFoundError(
        f'{work_dir} has neither best_*.pth nor last_checkpoint; the run may have stopped too early'
    )


def read_scalars(work_dir: Path) -> tuple[list[dict], list[dict]]:
    """Read what mmengine's latest run in `work_dir` logged: records of training, and of validation."""
    text = latest(work_dir, '*/vis_data/scalars.json').read_text()
    records = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [r for r in records if 'loss' in r], [r for r in records if AP in r]


def draw_curves(train: list[dict], val: list[dict], stage2_from: int, path: Path) -> None:
    """Draw losses and AP over epochs.

    Args:
        train: mmengine's records with `loss`, `loss_cls`, `loss_bbox`, `iter` and `epoch`.
        val: mmengine's records with the AP, `step` being the epoch.
        stage2_from: number of epochs after which stage 2 begins; 0 for none.
        path: the PNG to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout='constrained')
    steps_per_epoch = max(r['iter'] / r['epoch'] for r in train)
    epochs = [r['iter'] / steps_per_epoch for r in train]
    for name, label, colour in (
        ('loss', 'sum', '#000000'),
        ('loss_bbox', 'boxes (GIoU, twice)', COLOURS[6]),
        ('loss_cls', 'classes (quality focal)', COLOURS[3]),
    ):
        left.plot(epochs, [r[name] for r in train], label=label, color=colour, linewidth=1.3)
    left.set(title='Loss', ylabel='loss', ylim=(0, None))
    points = [r['step'] for r in val]
    for name, label, colour in ((AP50, 'AP50', COLOURS[2]), (AP, 'AP', COLOURS[0])):
        values = [r[name] for r in val]
        right.plot(points, values, 'o-', label=label, color=colour, markersize=4)
        if values:
            right.annotate(
                f'{values[-1]:.3f}', (points[-1], values[-1]), (0, 6), textcoords='offset points', ha='center'
            )
    right.set(title='AP on held-out images', ylabel='AP', ylim=(0, 1))
    for axes in (left, right):
        axes.set(xlabel='epoch', xlim=(0, math.ceil(epochs[-1]) * 1.03))
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
        if stage2_from:
            axes.axvline(stage2_from, color='grey', linestyle=':', label='stage 2 begins')
        axes.legend(frameon=False, loc='upper right' if axes is left else 'upper left')
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_boxes(axes: Axes, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None = None) -> None:
    """Draw boxes, xyxy in pixels (N, 4), coloured by label (N,), with their scores (N,) above."""
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        colour = COLOURS[labels[n] % len(COLOURS)]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor='black', linewidth=2.6))
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.4))
        if scores is not None:
            inside = y1 < 0.08 * axes.get_ylim()[0]  # no space above; y points down
            axes.text(
                max(x1, 0), max(y1, 0), f'{scores[n]:.2f}'.lstrip('0'), fontsize=6.5, va='top' if inside else 'bottom',
                clip_on=True, bbox=dict(facecolor=colour, edgecolor='none', pad=0.6),
            )  # fmt: skip


def draw_predictions(config: Config, checkpoint: Path, path: Path, count: int = 8, score_thr: float = 0.4) -> None:
    """Draw held-out images twice: with the ground truth, and with the model's predictions.

    Args:
        config: config whose `test_dataloader` selects the images; `count` evenly spaced ones with objects are drawn.
        checkpoint: the weights.
        path: the PNG to write.
        count: number of images.
        score_thr: lowest score of the predictions that are drawn.
    """
    from mmdet.apis import inference_detector, init_detector
    from mmdet.registry import DATASETS

    # mmdet causes this warning at the first prediction of each process.
    warnings.filterwarnings('ignore', message='torch.meshgrid')
    model = init_detector(config, str(checkpoint), device='cpu', palette='random')
    dataset = DATASETS.build(config.test_dataloader.dataset)
    shown = [n for n in range(len(dataset)) if dataset.get_data_info(n)['instances']] or range(len(dataset))
    chosen = [shown[n] for n in np.linspace(0, len(shown) - 1, min(count, len(shown))).round().astype(int)]
    rows = math.ceil(len(chosen) / 2)
    first = dataset.get_data_info(0)
    height = 2.6 * first['height'] / first['width'] + 0.08
    figure, grid = plt.subplots(rows, 4, figsize=(10.6, rows * height + 0.75), layout='constrained', squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, index in enumerate(chosen):
        info = dataset.get_data_info(index)
        image = cv2.cvtColor(cv2.imread(info['img_path']), cv2.COLOR_BGR2RGB)
        found = inference_detector(model, info['img_path']).pred_instances.numpy()
        found = found[found.scores >= score_thr]
        found = found[np.argsort(found.scores)]  # the highest score on top
        truth = [instance for instance in info['instances'] if not instance.get('ignore_flag')]
        left, right = grid[place // 2, 2 * (place % 2) : 2 * (place % 2) + 2]
        for axes in (left, right):
            axes.imshow(image, interpolation='nearest')
        draw_boxes(left, np.array([t['bbox'] for t in truth]), np.array([t['bbox_label'] for t in truth]))
        draw_boxes(right, found.bboxes, found.labels, found.scores)
    for column, axes in enumerate(grid[0, : 4 if len(chosen) > 1 else 2]):
        axes.set_title(f'predicted (score at least {score_thr})' if column % 2 else 'ground truth', fontsize=9)
    handles = [
        Patch(facecolor=COLOURS[n % len(COLOURS)], label=name) for n, name in enumerate(dataset.metainfo['classes'])
    ]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_report(config: Config, work_dir: Path, checkpoint: Path, out: Path, **options: float) -> list[Path]:
    """Draw both PNGs into `out` and return their paths; `options` are passed to `draw_predictions`."""
    out.mkdir(parents=True, exist_ok=True)
    train, val = read_scalars(work_dir)
    switch = config.default_hooks.get('pipeline_switch') or {}
    stage2_from = config.train_cfg.max_epochs - switch['num_last_epochs'] if switch else 0
    paths = [out / 'predictions.png', out / 'curves.png']
    draw_predictions(config, checkpoint, paths[0], **options)
    draw_curves(train, val, max(0, stage2_from), paths[1])
    return paths


def print_table(title: str, rows: list[tuple[str, str]]) -> None:
    """Print rows of a name and a value; long paths are folded, not cut."""
    table = Table(title=title, show_header=False, title_justify='left')
    table.add_column(style='bold', no_wrap=True)
    table.add_column(overflow='fold')
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main() -> None:
    """Draw the run that the command line names, and print its best figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path)
    parser.add_argument('--work-dir', type=Path, required=True, help='work directory of the training run')
    parser.add_argument('--count', type=int, default=8, help='number of images (default: %(default)s)')
    parser.add_argument(
        '--score-thr', type=float, default=0.4, help='lowest score of drawn predictions (default: %(default)s)'
    )
    args = parser.parse_args()
    config = Config.fromfile(args.config)
    checkpoint = find_checkpoint(args.work_dir)
    paths = draw_report(config, args.work_dir, checkpoint, args.work_dir, count=args.count, score_thr=args.score_thr)
    best = max(read_scalars(args.work_dir)[1], key=lambda record: record[AP])
    print_table(
        f'{args.config.stem}, best of the validations',
        [
            ('AP', f'{best[AP]:.3f} (epoch {best["step"]})'),
            ('AP50', f'{best[AP50]:.3f}'),
            ('checkpoint', str(checkpoint)),
            *((path.stem, str(path)) for path in paths),
        ],
    )


if __name__ == '__main__':
    main()
