"""Checks of a run before its first step, each a function of plain numbers.

No finding stops a run. A `warning` is a known cause of failed runs, with the setting that helps; a `note` is worth a
look.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from numpy import ndarray

from ....config.learning_rate import fitting_rate, usual_rates
from ....datasets.box_format import box_format

EXTREME_ASPECT_RATIO = 10  # longer side over shorter side


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Literal['ok', 'note', 'warning']
    what: str
    value: str
    advice: str = ''


def ok(what: str, value: str) -> Finding:
    """Return a passing check with its value."""
    return Finding('ok', what, value)


def check_classes(num_classes: int | None, names: Sequence[str], counts: ndarray | Sequence[int]) -> Finding:
    """Check the classes of model and data.

    Args:
        num_classes: number of classes of the head; None if it has no such attribute.
        names: class names of the dataset, in label order.
        counts: number of objects of each class; empty if not all data was read.
    """
    shown = ', '.join(names[:6]) + (f' and {len(names) - 6} more' if len(names) > 6 else '')
    if num_classes is not None and num_classes != len(names):
        advice = f'model.bbox_head.num_classes={len(names)}, or metainfo=dict(classes=(...)) in the dataset'
        return Finding('warning', 'classes', f'{num_classes} in the model, {len(names)} in the data: {shown}', advice)
    unseen = [name for name, count in zip(names, counts, strict=False) if count == 0]
    if unseen:
        advice = 'the model cannot learn a class without objects: check its spelling, and whether a subset lacks it'
        return Finding('warning', 'classes', f'{len(unseen)} of {len(names)} without objects: {unseen[:6]}', advice)
    return ok('classes', f'{len(names)}: {shown}')


def check_small_objects(short_sides: ndarray, stride: int) -> Finding:
    """Check for objects so small that they may lie between the priors.

    Args:
        short_sides: shorter side of each object, in pixels of the scaled image. (N,)
        stride: stride of the finest level, in pixels.
    """
    if not len(short_sides):
        return Finding('warning', 'small objects', 'the dataset has no objects', 'check ann_file and filter_cfg')
    share = (short_sides < stride).mean()
    value = f'{share:.0%} of {len(short_sides)} are narrower than the finest stride ({stride} px) after scaling'
    if share <= 0.1:
        return ok('small objects', value)
    advice = 'an object without a prior inside is not learned: use a larger img_scale, or tiles of the images'
    return Finding('warning' if share > 0.25 else 'note', 'small objects', value, advice)


def check_aspect_ratios(ratios: ndarray) -> Finding:
    """Check for objects of an extreme aspect ratio.

    Args:
        ratios: longer side over shorter side of each object. (N,)
    """
    share = (ratios > EXTREME_ASPECT_RATIO).mean() if len(ratios) else 0.0
    value = f'{share:.0%} of {len(ratios)} are over {EXTREME_ASPECT_RATIO} times as long as wide'
    if share <= 0.05:
        return ok('aspect ratios', value)
    advice = 'upright boxes fit such objects poorly'
    return Finding('warning' if share > 0.2 else 'note', 'aspect ratios', value, advice)


def check_box_format(boxes: ndarray, sizes: ndarray) -> Finding:
    """Check for boxes that extend past their image, such as boxes in another format than COCO's.

    Args:
        boxes: x, y, width, height in pixels. (N, 4)
        sizes: width and height of each box's image. (N, 2)
    """
    found = box_format(boxes, sizes)
    if found.doubt:
        return Finding('warning', 'box format', found.doubt, 'convert `bbox` in the annotation file')
    value = f'{found.past} of {found.total} boxes extend past their image'
    if found.many_past:
        advice = 'they are clipped at its border: check that annotations and images belong together'
        return Finding('note', 'box format', value, advice)
    return ok('box format', value)


def check_learning_rate(
    lr: float,
    batch_size: int,
    pretrained: bool,
    factor: float | None = None,
    scaled: bool = False,
    others: Collection[float] = (),
) -> Finding:
    """Check that the learning rate of AdamW fits the batch size.

    Args:
        lr: base learning rate of the optimiser, after any scaling.
        batch_size: images per step, over all processes and accumulated batches.
        pretrained: whether the training starts from a detector's weights.
        factor: factor that `--auto-scale-lr` applies to the configured value; None if it isn't configured.
        scaled: whether it has been applied.
        others: other learning rates, of parameter groups with `lr_mult`.
    """
    fitting = fitting_rate(batch_size, pretrained)
    lowest, highest = usual_rates(batch_size, pretrained)
    applied = 1.0 if factor is None or not scaled else factor
    value = f'{lr:.3g} for a batch of {batch_size}'
    if scaled:
        value += f', scaled by auto_scale_lr from {lr / applied:.3g}'
    if others:
        value += f'; other groups: {", ".join(f"{other:.3g}" for other in sorted(others)[:4])}'
    kind = 'fine-tuning' if pretrained else 'training from scratch'
    usual = f'{fitting:.3g} fits {kind} with a batch of {batch_size}'
    if lowest <= lr <= highest:
        return ok('learning rate', value)
    advice = f'optim_wrapper.optimizer.lr={fitting / applied:.3g}'
    if scaled:
        advice += ', which auto_scale_lr then scales'
    elif factor is not None and lowest <= lr * factor <= highest:
        advice = f'--auto-scale-lr, or {advice}'
    level = 'warning' if lr > highest else 'note'
    return Finding(level, 'learning rate', value, f'{usual}: {advice}')


def check_batch_norm(batch_size: int, processes: int, synchronised: bool) -> Finding:
    """Check the number of images that BN computes its statistics from.

    Args:
        batch_size: images per batch of one process.
        processes: number of processes.
        synchronised: whether BN synchronises its statistics between processes.
    """
    images = batch_size * processes if synchronised else batch_size
    value = f'statistics of {images} images' + (f' ({processes} processes, synchronised)' if synchronised else '')
    if images >= 4:
        return ok('batch norm', value)
    advice = 'use a larger batch_size, several GPUs (BN is synchronised then), or backbone.norm_eval=True'
    return Finding('warning', 'batch norm', value, advice)


def check_stages(max_epochs: int, num_last_epochs: int) -> Finding:
    """Compare the length of stage 2, without mosaic and MixUp, with that of the run, both in epochs."""
    value = f'{num_last_epochs} of {max_epochs} epochs are stage 2'
    if num_last_epochs >= max_epochs or 2 * num_last_epochs > max_epochs > 1:
        share = max(1, max_epochs // 15)
        advice = (
            'stage 2 runs without mosaic and MixUp: default_hooks.pipeline_switch.num_last_epochs='
            f'{share} is the same share as 20 of 300'
        )
        return Finding('warning' if num_last_epochs >= max_epochs else 'note', 'stages', value, advice)
    return ok('stages', value if num_last_epochs else f'{max_epochs} epochs of stage 1, no stage 2')


def check_warm_up(warm_up: int, steps: int) -> Finding:
    """Compare the length of the warm-up with that of the run, both in steps."""
    value = f'{warm_up} of {steps} steps'
    if 5 * warm_up <= steps:
        return ok('warm-up', value)
    advice = f'the learning rate reaches its value late: set param_scheduler.0.end={max(1, steps // 20)}'
    return Finding('warning' if 2 * warm_up > steps else 'note', 'warm-up', value, advice)


def check_memory(need: int, free: int, workers: int) -> Finding:
    """Check the memory of this machine for the caches of mosaic and MixUp, in bytes."""
    value = f'{gib(need)} for the caches of {workers} workers, {gib(free)} free'
    if 2 * need <= free:
        return ok('memory', value)
    advice = 'use fewer train_dataloader.num_workers, or a smaller max_cached_images of mosaic and MixUp'
    return Finding('warning' if need > free else 'note', 'memory', value, advice)


def check_shared_memory(need: int, free: int) -> Finding:
    """Check the shared memory of this machine for the batches in the workers' queues, in bytes."""
    value = f'{gib(need)} for queued batches, {gib(free)} free'
    if need <= free:
        return ok('shared memory', value)
    advice = 'workers would end with a bus error: use a larger /dev/shm (docker: --shm-size), or fewer workers'
    return Finding('warning', 'shared memory', value, advice)


def check_disk(checkpoint: int, count: int, free: int) -> Finding:
    """Check the disk space for checkpoints.

    Args:
        checkpoint: bytes of one checkpoint, with averaged weights and the optimiser's state.
        count: maximum number of checkpoints at a time, including the one that is being written.
        free: free bytes on the disk that they are written to.
    """
    value = f'{gib(checkpoint * count)} for {count} checkpoints, {gib(free)} free'
    if checkpoint * count <= free:
        return ok('disk', value)
    advice = 'use another --work-dir, or keep fewer: default_hooks.checkpoint.max_keep_ckpts=1'
    return Finding('warning', 'disk', value, advice)


def gib(size: int) -> str:
    """Format a number of bytes in GiB or MiB."""
    return f'{size / 2**30:.1f} GiB' if size >= 2**30 / 10 else f'{size / 2**20:.0f} MiB'


def format_report(findings: Sequence[Finding]) -> str:
    """Format all findings as text, one line each, with the advice on the line below."""
    count = {level: sum(finding.level == level for finding in findings) for level in ('warning', 'note')}
    width = max((len(finding.what) for finding in findings), default=0)
    lines = [f'Before the first step: {count["warning"]} warnings, {count["note"]} notes.']
    for finding in findings:
        lines.append(f'  {finding.level:7}  {finding.what:{width}}  {finding.value}')
        if finding.advice:
            lines.append(f'{"":13}{"":{width}}-> {finding.advice}')
    return '\n'.join(lines)
