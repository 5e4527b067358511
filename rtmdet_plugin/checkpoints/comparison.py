"""Compare the tensors of a checkpoint with those of a model, by name and shape."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Shape = tuple[int, ...]
MASK_LAYER = 'bbox_head.rtm_kernel.'
"""Beginning of the names of layers that RTMDet-Ins has and RTMDet hasn't."""
MAX_ROWS = 10
"""Number of tensors of each kind that a table lists at most."""


@dataclass(frozen=True)
class LoadReport:
    """Comparison of two state dicts by name and shape, without BN's `num_batches_tracked` counters."""

    fitting: list[str]
    other_shape: dict[str, tuple[Shape, Shape]]  # name: (in the checkpoint, in the model)
    missing: list[str]  # in the model only
    unexpected: list[str]  # in the checkpoint only

    @property
    def complete(self) -> bool:
        """Whether the checkpoint holds exactly the model's tensors."""
        return not (self.other_shape or self.missing or self.unexpected)

    @property
    def other_task(self) -> str:
        """Whether only one of model and checkpoint predicts masks, as text; empty if not."""
        if any(name.startswith(MASK_LAYER) for name in self.missing):
            return 'the checkpoint is that of a model without masks, and this model predicts masks (RTMDet-Ins)'
        if any(name.startswith(MASK_LAYER) for name in self.unexpected):
            return 'the checkpoint is that of a model with masks (RTMDet-Ins), and this model predicts none'
        return ''

    def lines(self) -> list[str]:
        """Describe the comparison in lines of text."""
        total = len(self.fitting) + len(self.other_shape) + len(self.missing)
        lines = [f'{len(self.fitting)} of the {total} tensors of the model were loaded from the checkpoint.']
        return lines if self.complete else [*lines, *self.table()]

    def table(self) -> list[str]:
        """List the tensors that weren't loaded, one line each, up to `MAX_ROWS` of each kind."""
        other = [(name, str(theirs), str(ours)) for name, (theirs, ours) in self.other_shape.items()]
        missing = [(name, 'not there', 'there') for name in self.missing]
        unexpected = [(name, 'there', 'not there') for name in self.unexpected]
        rows = [('not loaded', 'checkpoint', 'model')]
        for kind in (other, missing, unexpected):
            rows += kind[:MAX_ROWS]
            if len(kind) > MAX_ROWS:
                rows.append((f'... {len(kind) - MAX_ROWS} more of this kind', '', ''))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return ['  ' + '  '.join(map(str.ljust, row, widths)).rstrip() for row in rows]

    def summary(self) -> str:
        """Describe the differences in one line: `other_task`, or the number of tensors of each kind, and an example."""
        if self.other_task and not self.other_shape:
            return f'{self.other_task}; use the config that it was trained with'
        reasons = []
        if self.other_shape:
            name, (theirs, ours) = next(iter(self.other_shape.items()))
            reasons.append(f'{len(self.other_shape)} tensors have another shape ({name}: {theirs}, the model {ours})')
        for names, what in ((self.missing, 'are missing'), (self.unexpected, 'are not in the model')):
            if names:
                reasons.append(f'{len(names)} {what} ({names[0]})')
        return '; '.join(reasons)


def compare(model_state: Mapping[str, Tensor], checkpoint_state: Mapping[str, Tensor]) -> LoadReport:
    """Compare the names and shapes of tensors to find those of a checkpoint that a model can load.

    Args:
        model_state: the model's `state_dict()`.
        checkpoint_state: the checkpoint's state dict; a prefix `module.` of its names is ignored.
    """

    def shapes(state: Mapping[str, Tensor]) -> dict[str, Shape]:
        return {
            name.removeprefix('module.'): tuple(value.shape)
            for name, value in state.items()
            if not name.endswith('num_batches_tracked')
        }

    ours, theirs = shapes(model_state), shapes(checkpoint_state)
    common = [name for name in ours if name in theirs]
    return LoadReport(
        fitting=[name for name in common if ours[name] == theirs[name]],
        other_shape={name: (theirs[name], ours[name]) for name in common if ours[name] != theirs[name]},
        missing=[name for name in ours if name not in theirs],
        unexpected=[name for name in theirs if name not in ours],
    )
