"""Choose the numbers of a training from the data and the machine, each with its reason. Pure functions of numbers.

The rules join what was measured in this repository: blood cells (projects/blood_cells, 205 images, fine-tuned) and the
demo (projects/demo, from scratch) at the short end, and the paper's recipe (300 epochs of COCO) at the long end.
benchmarks/automatic_numbers.py compares them with a search by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..config.augmentation import Augmentation
from ..config.learning_rate import FINE_TUNE_BATCH, RECIPE_BATCH, RECIPE_LR, fitting_rate

if TYPE_CHECKING:
    from .memory import Memory

STRIDE = 8  # pixels; the finest level of RTMDet
DIVISOR = 32
USED = 0.7
"""Share of the free memory that a step may take; the rest is for the loss, loader processes and validation."""
KNOWN = 0.1
"""Factor of the learning rate if the weights already detect all classes: with the full rate they get worse at first."""
GENTLER = {
    500: Augmentation(0.9, 1.1, 0.0),
    1500: Augmentation(0.75, 1.25, 0.1),
    5000: Augmentation(0.5, 1.5, 0.25),
}
"""Number of steps: augmentation of runs with fewer. The first was compared with others at 300 steps. The second was
used at 900 steps, where other learning rates gave no more AP. The third is intermediate and wasn't measured."""
SCRATCH_STEPS, FINE_TUNE_STEPS = 6000, 2000


class Choice(NamedTuple):
    """A value with its reason."""

    value: Any
    reason: str


@dataclass(frozen=True)
class Facts:
    """What the choices depend on."""

    images: int
    """Number of training images, with those that have no objects."""
    object_sides: ndarray
    """Shorter side of each object over the longer side of its image. (N,)"""
    long_side: float
    """Side in pixels that 95 % of the images don't exceed."""
    default_size: int
    """Input size of the model's config in pixels."""
    default_augmentation: Augmentation
    """Augmentation of the model's config."""
    pretrained: bool
    """Whether the training starts from a detector's weights."""
    known: bool
    """Whether these weights already detect all classes of the data, by their names."""
    device: str
    """'cuda' or 'cpu'."""
    cores: int
    """Number of CPU cores that the process may use."""
    processes: int = 1
    """Number of processes, one for each GPU."""
    step_memory: Callable[[int], Memory | None] = lambda size: None
    """Measures the memory of a training step with an input size; None if it isn't known."""


def facts_about(content: dict[str, list[dict]], **others: Any) -> Facts:
    """Return the facts about COCO's lists of the training split; the other fields of `Facts` are passed on."""
    sides = {image['id']: max(image['width'], image['height']) for image in content['images']}
    objects = [(*item['bbox'][2:], sides[item['image_id']]) for item in content['annotations'] if not item['iscrowd']]
    width, height, image_side = np.array(objects, dtype=float).reshape(-1, 3).T
    return Facts(
        images=len(content['images']),
        object_sides=np.minimum(width, height) / image_side,
        long_side=float(np.quantile(list(sides.values()), 0.95)),
        **others,
    )


def fit(facts: Facts, given: Mapping[str, Any]) -> dict[str, Choice]:
    """Return every number of the training.

    Args:
        facts: the data and the machine.
        given: values that the user has set: `imgsz`, `batch`, `epochs`, `workers`. Others follow from them.
    """
    choices: dict[str, Choice] = {}

    def choose(name: str, rule: Callable[..., Choice], *arguments: Any) -> Any:
        choices[name] = rule(*arguments) if given.get(name) is None else Choice(given[name], 'set by you')
        return choices[name].value

    size = choose('imgsz', input_size, facts)
    batch = choose('batch', batch_size, facts, size)
    steps = math.ceil(facts.images / (batch * facts.processes))
    epochs = choose('epochs', number_of_epochs, steps, facts.pretrained)
    choose('stage2', stage_2, epochs)
    choose('augmentation', augmentation, facts.default_augmentation, steps * epochs)
    choose('lr', learning_rate, batch * facts.processes, facts.pretrained, facts.known)
    choose('warmup', warm_up, steps * epochs)
    choose('ema', averaging, steps * epochs)
    choose('val_interval', validation_interval, epochs)
    choose('val_begin', first_validation, facts.known)
    choose('workers', number_of_workers, facts)
    return choices


def input_size(facts: Facts) -> Choice:
    """Choose the input size in pixels: the model's, unless objects would be too small or images are small."""
    default, longest = facts.default_size, _round_up(facts.long_side)

    def small(size: int) -> float:
        return float((facts.object_sides * size < STRIDE).mean()) if len(facts.object_sides) else 0.0

    if small(default) > 0.25 and longest > default:
        sizes = range(default, min(2 * default, longest) + 1, DIVISOR)
        size = next((size for size in sizes if small(size) <= 0.25), sizes[-1])
        return Choice(
            size,
            f'{small(default):.0%} of the objects would be narrower than {STRIDE} px, the finest stride, at the '
            f"model's {default} px; {small(size):.0%} are here",
        )
    if 2 * longest < default:
        return Choice(2 * longest, f'twice the size of the images, which is less than the {default} px of the model')
    return Choice(default, f"the model's; {small(default):.0%} of the objects are narrower than the finest stride")


def batch_size(facts: Facts, size: int) -> Choice:
    """Choose the number of images of a step and process: a power of 2 that fits the memory and the number of images.

    Args:
        facts: the data and the machine.
        size: input size in pixels.
    """
    most = 32 if facts.device == 'cuda' else 8
    wanted = min(most, _power_of_2(facts.images / facts.processes / 8))
    if wanted < most:
        reason = f'{facts.images} images; at least 8 steps per epoch, and 4 images for batch norm'
    else:
        reason = f'the most that is chosen for a {"GPU" if facts.device == "cuda" else "CPU"}'
    memory = facts.step_memory(size)
    if memory is None:
        return Choice(wanted, f'{reason}; memory was not measured')
    limit = (USED * memory.free - memory.fixed) / memory.per_image
    fitting = min(wanted, _power_of_2(limit))
    need = (memory.fixed + fitting * memory.per_image) / 1e9
    if limit < fitting:
        reason = f'batch norm needs 4 images, although they take more than {USED:.0%} of the free memory'
    elif fitting < wanted:
        reason = f'{2 * fitting} would take more than {USED:.0%} of the free memory'
    return Choice(fitting, f'{reason}; a step takes about {need:.1f} of {memory.free / 1e9:.1f} GB free')


def number_of_epochs(steps: int, pretrained: bool) -> Choice:
    """Choose the number of epochs from the number of steps per epoch."""
    wanted = FINE_TUNE_STEPS if pretrained else SCRATCH_STEPS
    epochs = min(300, max(12, math.ceil(wanted / steps)))
    kind = 'fine-tuning' if pretrained else 'training from scratch'
    return Choice(epochs, f'{steps} steps per epoch; {kind} takes about {wanted:,} steps, within 12 to 300 epochs')


def stage_2(epochs: int) -> Choice:
    """Choose the number of last epochs without mosaic and MixUp."""
    length = min(20, round(0.3 * epochs)) if epochs > 1 else 0
    return Choice(length, 'the last 30 % of the epochs run without mosaic and MixUp, at most 20')


def augmentation(default: Augmentation, steps: int) -> Choice:
    """Choose the strength of the augmentation: the model's, or a gentler one for a short run."""
    for limit, gentler in GENTLER.items():
        if steps < limit:
            return Choice(gentler, f"gentler than the model's, because the run has fewer than {limit:,} steps")
    return Choice(default, "the model's")


def learning_rate(batch: int, pretrained: bool, known: bool) -> Choice:
    """Choose the learning rate of AdamW."""
    rate = fitting_rate(batch, pretrained)
    if known:
        return Choice(
            float(f'{KNOWN * rate:.2g}'),
            f'the weights already detect all classes, so {KNOWN:g} times the {rate} for new classes',
        )
    if rate == RECIPE_LR and pretrained:
        return Choice(rate, f"the recipe's, for fine-tuning with a batch of {FINE_TUNE_BATCH} or more")
    if rate == RECIPE_LR:
        return Choice(rate, "the recipe's, also used by this package's projects from scratch with a batch of 8")
    base = RECIPE_BATCH if batch > RECIPE_BATCH else FINE_TUNE_BATCH
    return Choice(rate, f'{RECIPE_LR} for a batch of {base}, times the square root of {batch}/{base}')


def warm_up(steps: int) -> Choice:
    """Choose the number of steps in which the learning rate rises."""
    return Choice(max(1, min(1000, steps // 10)), f'a tenth of {steps:,} steps, at most 1,000')


def averaging(steps: int) -> Choice:
    """Choose the momentum and the gamma of the averaged weights."""
    momentum = float(f'{min(0.01, max(0.0002, 10 / steps)):.2g}')
    gamma = max(1, min(2000, steps // 4))
    return Choice(
        (momentum, gamma), f'the averaged weights remember about {round(1 / momentum):,} steps; the run has {steps:,}'
    )


def validation_interval(epochs: int) -> Choice:
    """Choose the number of epochs between validations, which is also that between checkpoints."""
    return Choice(max(1, round(epochs / 10)), 'about ten validations and checkpoints')


def first_validation(known: bool) -> Choice:
    """Choose the number of epochs before the first validation; 0 validates the weights before the training."""
    if known:
        return Choice(0, 'the weights are validated too: they stay the best checkpoint unless an epoch is better')
    return Choice(1, "the weights don't detect all classes yet")


def number_of_workers(facts: Facts) -> Choice:
    """Choose the number of processes that load training images, per process of the training."""
    workers = min(8, max(1, facts.cores // facts.processes - 1))
    return Choice(workers, f'{facts.cores} CPU cores, of which each training process needs one')


def _power_of_2(limit: float) -> int:
    """Return the largest power of 2 within a limit, and at least the 4 images that batch norm needs."""
    return 2 ** int(math.log2(max(4, limit)))


def _round_up(size: float) -> int:
    return math.ceil(size / DIVISOR) * DIVISOR
