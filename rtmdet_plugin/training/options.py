"""Options of a training, which `rtmdet train` and `rtmdet_plugin.train` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtmdet_runtime.choices import MODELS

from ..errors import RefusedError

NUMBERS = ('imgsz', 'batch', 'epochs', 'workers')
"""Numbers that follow from the data unless they are set."""
OF_DATA = ('model', 'classes', 'val_fraction')
"""Options that only apply to a dataset, and not to a config."""
ON_RESUME = ('device', 'gpus', 'changes', 'resume')
"""Options that may be set when a run is resumed."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a training; None means that the value follows from the data, or is that of the config."""

    model: str | None = None
    """Size: nano, tiny (the default), s, m, l or x; with masks: ins-tiny, ins-s, ins-m, ins-l or ins-x."""
    epochs: int | None = None
    """Number of epochs."""
    batch: int | None = None
    """Number of images of a step, for each GPU."""
    imgsz: int | None = None
    """Input size in pixels, a multiple of 32."""
    workers: int | None = None
    """Number of processes that load images, for each GPU."""
    weights: str | Path | None = None
    """'default' for the published ones, 'none', or a file."""
    classes: Sequence[str] | None = None
    """Names of the classes to train on; by default all."""
    val_fraction: float | None = None
    """Share of the training images to validate on, if the dataset has no validation split; by default 0.2."""
    seed: int | None = None
    """Seed of the run and of that split; 0 by default, unless a config has its own."""
    amp: bool = False
    """Whether to train with bfloat16."""
    patience: int | None = None
    """Stop after this number of epochs of stage 2 without a better AP."""
    log: Sequence[str] = ()
    """Services that get the metrics as well: tensorboard, mlflow, wandb."""
    device: str | None = None
    """'cpu', 'cuda' or 'cuda:N'; by default a GPU if there is one."""
    gpus: int = 1
    """Number of GPUs; more than one are started by torchrun."""
    name: str | None = None
    """Name of the work directory, `work_dirs/NAME_1`, or the next free number."""
    changes: Sequence[str] = ()
    """Changes of the config, KEY=VALUE."""
    resume: bool = False
    """Whether to continue the run of a work directory; then only `device`, `gpus` and `changes` may be set."""

    def numbers(self) -> dict[str, int]:
        """Return those of `NUMBERS` that are set."""
        return {name: value for name in NUMBERS if (value := getattr(self, name)) is not None}

    def check(self) -> None:
        """Check the values that don't depend on the data.

        Raises:
            RefusedError: if a number is too small, or the model isn't known.
        """
        for name in ('classes', 'log'):
            if isinstance(getattr(self, name), str):
                raise RefusedError(f'{name} must be a list of names, got {getattr(self, name)!r}')
        for name in (*NUMBERS, 'patience', 'gpus'):
            value = getattr(self, name)
            if value is not None and value < (0 if name == 'workers' else 1):
                raise RefusedError(f'{name} must be a positive number, got {value}')
        if self.model is not None and self.model not in MODELS:
            raise RefusedError(f'model must be one of {", ".join(MODELS)}, got {self.model!r}')

    def refuse(self, names: Iterable[str], reason: str) -> None:
        """Refuse options that are set although they would change nothing.

        Args:
            names: options that have no effect.
            reason: why, and what to do.

        Raises:
            RefusedError: if one isn't at its default; the message has all of them and the reason.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        found = [f'{name}={value}' for name in names if (value := getattr(self, name)) != defaults[name]]
        if found:
            raise RefusedError(f'{", ".join(found)} must not be set: {reason}')

    def refuse_on_resume(self, data: str) -> None:
        """Refuse all options that a resumed run keeps.

        Raises:
            RefusedError: see `refuse`.
        """
        kept = [field.name for field in dataclasses.fields(self) if field.name not in ON_RESUME]
        reason = f'with resume, the run in {data} keeps its own values; change one with --set, such as '
        self.refuse(kept, reason + '--set train_cfg.max_epochs=50')
