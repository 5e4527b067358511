"""What can be told about a run before its first step: each check a function of plain numbers.

None of them stops a run. A `warning` is what has spoilt runs, with the setting that helps; a `note` is worth a look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from numpy import ndarray

from ....datasets.box_format import box_format

RECIPE_LR, RECIPE_BATCH = 0.004, 256  # the learning rate of AdamW belongs to this batch
LONG_SIDES = 10  # times the shorter side: an extreme aspect ratio


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Literal['ok', 'note', 'warning']
    what: str
    value: str
    advice: str = ''


def ok(what: str, value: str) -> Finding:
    """Nothing to say but the value."""
    return Finding('ok', what, value)


def check_classes(num_classes: int | None, names: Sequence[str], counts: Sequence[int]) -> Finding:
    """The classes of model and data.

    Args:
        num_classes: of the head; None where it doesn't say.
        names: of the data set, in label order.
        counts: objects of each class in the data that was looked at; empty where that isn't all of it.
    """
    shown = ', '.join(names[:6]) + (f' and {len(names) - 6} more' if len(names) > 6 else '')
    if num_classes is not None and num_classes != len(names):
        advice = f'model.bbox_head.num_classes={len(names)}, or metainfo=dict(classes=(...)) in the dataset'
        return Finding('warning', 'classes', f'{num_classes} in the model, {len(names)} in the data: {shown}', advice)
    unseen = [name for name, count in zip(names, counts, strict=False) if count == 0]
    if unseen:
        advice = 'the model cannot learn a class without objects: a spelling, or a subset that lacks it?'
        return Finding('warning', 'classes', f'{len(unseen)} of {len(names)} without objects: {unseen[:6]}', advice)
    return ok('classes', f'{len(names)}: {shown}')


def check_small_objects(short_sides: ndarray, stride: int) -> Finding:
    """Objects that may lie between the priors.

    Args:
        short_sides: shorter side of each object, in pixels of the scaled picture. (N,)
        stride: of the finest level, in pixels.
    """
    if not len(short_sides):
        return Finding('warning', 'small objects', 'no objects at all', 'look at ann_file and filter_cfg')
    share = (short_sides < stride).mean()
    value = f'{share:.0%} of {len(short_sides)} are narrower than the finest stride ({stride} px) after scaling'
    if share <= 0.1:
        return ok('small objects', value)
    advice = 'an object without a prior inside is not learned: a larger img_scale, or tiles of the pictures'
    return Finding('warning' if share > 0.25 else 'note', 'small objects', value, advice)


def check_aspect_ratios(ratios: ndarray) -> Finding:
    """Objects that are very long.

    Args:
        ratios: longer side over shorter side of each object. (N,)
    """
    share = (ratios > LONG_SIDES).mean() if len(ratios) else 0.0
    value = f'{share:.0%} of {len(ratios)} are over {LONG_SIDES} times as long as wide'
    if share <= 0.05:
        return ok('aspect ratios', value)
    advice = 'upright boxes fit such objects poorly'
    return Finding('warning' if share > 0.2 else 'note', 'aspect ratios', value, advice)


def check_box_format(boxes: ndarray, sizes: ndarray) -> Finding:
    """Boxes that reach past their image, as those do that were written in another format than COCO's.

    Args:
        boxes: x, y, width, height in pixels. (N, 4)
        sizes: width and height of the image of each. (N, 2)
    """
    found = box_format(boxes, sizes)
    if found.doubt:
        return Finding('warning', 'box format', found.doubt, 'convert `bbox` in the annotation file')
    value = f'{found.past} of {found.total} boxes reach past their image'
    if found.many_past:
        return Finding('note', 'box format', value, 'they are cut at its border: do the files belong to each other?')
    return ok('box format', value)


def check_learning_rate(
    lr: float, batch_size: int, factor: float | None = None, scaled: bool = False, others: Sequence[float] = ()
) -> Finding:
    """The learning rate of AdamW against the batch.

    Args:
        lr: the base value that the optimiser runs with, after any scaling.
        batch_size: images of one step, over all processes and accumulated batches.
        factor: what `--auto-scale-lr` multiplies the configured value by; None if it can't.
        scaled: whether it has done so.
        others: rates of parameter groups that run with another one (`lr_mult`).
    """
    fitting = RECIPE_LR * batch_size / RECIPE_BATCH
    value = f'{lr:.3g} for a batch of {batch_size}'
    if scaled:
        value += f', scaled by auto_scale_lr from {lr / factor:.3g}'
    if others:
        value += f'; other groups: {", ".join(f"{other:.3g}" for other in sorted(others)[:4])}'
    belongs = f'{RECIPE_LR} belongs to {RECIPE_BATCH} images, so {fitting:.3g} to {batch_size}'
    if fitting / 10 <= lr <= 2 * fitting:
        return ok('learning rate', value)
    advice = f'optim_wrapper.optimizer.lr={fitting / (factor if scaled else 1):.3g}'
    if scaled:
        advice += ', which auto_scale_lr then scales'
    elif factor is not None and fitting / 10 <= lr * factor <= 2 * fitting:
        advice = f'--auto-scale-lr, or {advice}'
    if lr > 2 * fitting:
        return Finding('warning', 'learning rate', value, f'{belongs}: {advice}')
    return Finding('note', 'learning rate', value, f'{belongs}: {advice}; less is usual for fine-tuning only')


def check_batch_norm(batch_size: int, processes: int, synchronised: bool) -> Finding:
    """Pictures that BN takes its statistics from.

    Args:
        batch_size: of one process.
        processes: how many there are.
        synchronised: whether BN shares its statistics between them.
    """
    pictures = batch_size * processes if synchronised else batch_size
    value = f'statistics of {pictures} pictures' + (f' ({processes} processes, synchronised)' if synchronised else '')
    if pictures >= 4:
        return ok('batch norm', value)
    advice = 'a larger batch_size, several GPUs (BN is synchronised then), or backbone.norm_eval=True'
    return Finding('warning', 'batch norm', value, advice)


def check_stages(max_epochs: int, num_last_epochs: int) -> Finding:
    """Stage 2, without mosaic and MixUp, against the run."""
    value = f'{num_last_epochs} of {max_epochs} epochs are stage 2'
    if num_last_epochs >= max_epochs or 2 * num_last_epochs > max_epochs > 1:
        share = max(1, max_epochs // 15)
        advice = f'no mosaic and MixUp then: default_hooks.pipeline_switch.num_last_epochs={share} is the share of 300'
        return Finding('warning' if num_last_epochs >= max_epochs else 'note', 'stages', value, advice)
    return ok('stages', value if num_last_epochs else f'{max_epochs} epochs of stage 1, no stage 2')


def check_warm_up(warm_up: int, steps: int) -> Finding:
    """Steps of the warm-up against those of the run."""
    value = f'{warm_up} of {steps} steps'
    if 5 * warm_up <= steps:
        return ok('warm-up', value)
    advice = f'the learning rate arrives late: param_scheduler.0.end={max(1, steps // 20)}'
    return Finding('warning' if 2 * warm_up > steps else 'note', 'warm-up', value, advice)


def check_memory(need: int, free: int, workers: int) -> Finding:
    """Memory for the caches of mosaic and MixUp, in bytes on this machine."""
    value = f'{gib(need)} for the caches of {workers} workers, {gib(free)} free'
    if 2 * need <= free:
        return ok('memory', value)
    advice = 'fewer train_dataloader.num_workers, or a smaller max_cached_images of mosaic and MixUp'
    return Finding('warning' if need > free else 'note', 'memory', value, advice)


def check_shared_memory(need: int, free: int) -> Finding:
    """Shared memory for the batches that wait in the workers' queues, in bytes on this machine."""
    value = f'{gib(need)} for batches that wait, {gib(free)} free'
    if need <= free:
        return ok('shared memory', value)
    advice = 'workers would end with a bus error: a larger /dev/shm (docker: --shm-size), or fewer workers'
    return Finding('warning', 'shared memory', value, advice)


def check_disk(checkpoint: int, count: int, free: int) -> Finding:
    """Space for checkpoints.

    Args:
        checkpoint: bytes of one, with averaged weights and the optimiser's state.
        count: how many the run keeps at once, the one that is being written included.
        free: bytes where they are written.
    """
    value = f'{gib(checkpoint * count)} for {count} checkpoints, {gib(free)} free'
    if checkpoint * count <= free:
        return ok('disk', value)
    advice = 'another --work-dir, or fewer: default_hooks.checkpoint.max_keep_ckpts=1'
    return Finding('warning', 'disk', value, advice)


def gib(size: int) -> str:
    """Bytes, to be read."""
    return f'{size / 2**30:.1f} GiB' if size >= 2**30 / 10 else f'{size / 2**20:.0f} MiB'


def screen(findings: Sequence[Finding]) -> str:
    """All findings as text, the advice below what it belongs to."""
    count = {level: sum(finding.level == level for finding in findings) for level in ('warning', 'note')}
    width = max((len(finding.what) for finding in findings), default=0)
    lines = [f'Before the first step: {count["warning"]} warnings, {count["note"]} notes.']
    for finding in findings:
        lines.append(f'  {finding.level:7}  {finding.what:{width}}  {finding.value}')
        if finding.advice:
            lines.append(f'{"":13}{"":{width}}-> {finding.advice}')
    return '\n'.join(lines)
