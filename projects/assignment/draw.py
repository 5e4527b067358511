"""Draw which prior learns which object: the positive priors of one image, by object and level.

    python projects/assignment/draw.py CONFIG CHECKPOINT [--index 0] [--out assignment.png]

Use it to debug labels. An object without a dot in any panel isn't learned from this image: it is too small for a prior
to lie inside, hidden behind others, or labelled at a place where the model sees nothing.
"""

import click
import matplotlib
import numpy as np
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

import rtmdet_plugin  # noqa: F401  registers the modules
from rtmdet_plugin.models.dense_head import flatten_levels, pad_ground_truth

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


@torch.no_grad()
def assign(model: torch.nn.Module, sample: dict) -> dict[str, np.ndarray]:
    """Compute the assignment of one packed sample of a test pipeline.

    Returns:
        `image` (H, W, 3) RGB as the model sees it, `boxes` (G, 4) xyxy in its pixels, `labels` (G,), `priors`
        (N, 3) x, y, stride, `gt_index` (N,) and `iou` (N,), see `Assignment`.
    """
    data = model.data_preprocessor(pseudo_collate([sample]), training=True)  # boxes as in training, in pixels
    head = model.bbox_head
    logits, distances = head(model.extract_feat(data['inputs']))
    instances = [data_sample.gt_instances for data_sample in data['data_samples']]
    priors, valid = head.priors(logits, [data_sample.metainfo for data_sample in data['data_samples']])
    boxes = head.bbox_coder.decode(priors[:, :2].expand(*valid.shape, 2), flatten_levels(distances))
    truth = pad_ground_truth(instances, boxes)
    found = head.assigner.assign_batch(flatten_levels(logits).transpose(1, 2), boxes, priors, valid, truth)
    return dict(
        image=sample['inputs'].numpy().transpose(1, 2, 0)[..., ::-1],
        boxes=truth.boxes[0].numpy(),
        labels=truth.labels[0].numpy(),
        priors=priors[:, :3].numpy(),
        gt_index=found.gt_index[0].numpy(),
        iou=found.iou[0].numpy(),
    )


def with_boxes_resized(dataset: dict) -> dict:
    """Return a validation dataset's config that loads boxes before the image is resized, as in training.

    Test pipelines load them afterwards, because evaluation needs them in the original image's pixels.
    """
    steps = [step for step in dataset['pipeline'] if step['type'] != 'LoadAnnotations']
    return {**dataset, 'pipeline': [steps[0], dict(type='LoadAnnotations', with_bbox=True), *steps[1:]]}


def draw(assignment: dict[str, np.ndarray], classes: tuple[str, ...], path: str) -> None:
    """Write a PNG with a panel per level, a colour per object and a dot per positive prior, sized by its IoU."""
    strides = np.unique(assignment['priors'][:, 2])
    colors = plt.colormaps['tab20'](np.arange(max(1, len(assignment['boxes']))) % 20)
    height, width = assignment['image'].shape[:2]
    figure, axes = plt.subplots(
        1, len(strides), figsize=(5 * len(strides), 5 * height / width + 0.4), layout='constrained', squeeze=False
    )
    for axis, stride in zip(axes[0], strides, strict=True):
        axis.imshow(assignment['image'])
        positive = (assignment['priors'][:, 2] == stride) & (assignment['gt_index'] >= 0)
        learned = set(assignment['gt_index'][positive].tolist())
        for j, (box, label) in enumerate(zip(assignment['boxes'], assignment['labels'], strict=True)):
            corner, sides = box[:2], box[2:] - box[:2]
            style = '-' if j in learned else ':'
            axis.add_patch(plt.Rectangle(corner, *sides, fill=False, color=colors[j], linestyle=style, linewidth=1.5))
            if j in learned:
                text = dict(
                    fontsize=7, color='white', va='bottom', bbox=dict(facecolor=colors[j], pad=0.6, linewidth=0)
                )
                axis.text(*corner, classes[label], **text)
        x, y = assignment['priors'][positive, :2].T
        sizes = 8 + 60 * assignment['iou'][positive]
        axis.scatter(x, y, s=sizes, c=colors[assignment['gt_index'][positive]], edgecolors='black', linewidths=0.7)
        axis.set(title=f'stride {stride:g}: objects {len(learned)}, positives {positive.sum()}', xticks=[], yticks=[])
        axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    figure.savefig(path, dpi=110)
    plt.close(figure)


@click.command(help=__doc__.splitlines()[0])
@click.argument('config', type=click.Path(exists=True))
@click.argument('checkpoint', type=click.Path(exists=True))
@click.option('--index', default=0, help='Index of the image in the validation set (default: 0).')
@click.option('--out', default='assignment.png', help='PNG to write (default: assignment.png).')
def main(config: str, checkpoint: str, index: int, out: str) -> None:
    """Build model and dataset, assign and draw."""
    cfg = Config.fromfile(config)
    init_default_scope('mmdet')
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).eval()
    if not hasattr(model.bbox_head.assigner, 'assign_batch'):
        raise click.UsageError(
            f'the assigner must be able to assign a batch, got {type(model.bbox_head.assigner).__name__}; use a config '
            'with RTMDynamicSoftLabelAssigner'
        )
    load_checkpoint(model, checkpoint, map_location='cpu')
    dataset = DATASETS.build(with_boxes_resized(cfg.val_dataloader.dataset))
    if not 0 <= index < len(dataset):
        raise click.UsageError(f'--index must be from 0 to {len(dataset) - 1}, got {index}')
    assignment = assign(model, dataset[index])
    draw(assignment, dataset.metainfo['classes'], out)
    missed = len(assignment['boxes']) - len(set(assignment['gt_index'].tolist()) - {-1})
    click.echo(f'{out}: {len(assignment["boxes"])} objects, {missed} of them without a positive prior')


if __name__ == '__main__':
    main()
