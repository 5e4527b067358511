"""Skip a training step whose loss or gradient isn't finite, report its cause, and stop the run after many in a row.

mmdet's `CheckInvalidLossHook` checks every 50 steps and ends the run with an assertion. By then weights, momentum, BN's
statistics and the averaged weights hold the NaN, and perhaps a checkpoint too. This hook keeps the NaN out of all of
them:

- *The decision is made on the gradients after they were summed over the processes*, so all processes make the same
  decision without further communication. A loss that isn't finite makes the gradients that flow from it NaN.
- *It uses PyTorch's public hooks on model and optimiser*, so it works with any `OptimWrapper`, also with `--amp`. If
  several batches are accumulated (`accumulative_counts`), all of them are skipped together.
- *The host doesn't wait.* Fused optimisers, such as those that `RTMOptimWrapperConstructor` creates, receive a flag on
  the device to skip the step, as from a loss scaler, and BN's statistics are selected there. On a GPU the host reads
  the flags every `max_consecutive` steps. Other optimisers cost one synchronisation per step on a GPU.
- *Steps that a loss scaler skips are counted separately*: if the losses are finite and the scale is above 1, the
  gradient overflowed because of the scale, and the scaler lowers it.

In a skipped step the averaged weights and the schedules advance as usual; the weights that are averaged don't change.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from ....checkpoints.latest import pointed_to
from ....errors import RefusedError
from ..unwrapped import unwrapped
from .buffer_snapshot import BufferSnapshot

MAX_LOGGED = 20  # steps that are described per epoch; all are counted


class InvalidLossError(RefusedError, FloatingPointError):
    """Raised if too many steps in a row have no finite loss and gradient."""


@dataclass
class Batch:
    """Files and losses of one forward pass of this process."""

    files: list[str]
    terms: dict[str, Tensor] = field(default_factory=dict)  # name of the loss: its sum, on the device


@dataclass
class Step:
    """One step of the optimiser, with the data for a report about it."""

    number: int
    batches: list[Batch]
    invalid: Tensor  # a bool, on the device
    finite: Tensor | None  # whether the gradient is finite, for each parameter with a gradient. (P,)
    names: list[str]  # names of these parameters. (P,)


@HOOKS.register_module()
class RTMCheckInvalidLossHook(Hook):
    """Skip steps with a non-finite loss or gradient; count and describe them in the log.

    Args:
        max_consecutive: the run stops after this number of such steps in a row.

    Raises:
        RefusedError: if `max_consecutive` is below 1, or the run has more than one optimiser.
        InvalidLossError: after `max_consecutive` steps in a row; the message names the last checkpoint before them.
    """

    # After the losses are recorded for the log (10), before the averaged weights (49) read the buffers.
    priority = 'HIGH'

    def __init__(self, max_consecutive: int = 10) -> None:
        if max_consecutive < 1:
            raise RefusedError(f'max_consecutive must be at least 1, got {max_consecutive}')
        self.max_consecutive = max_consecutive

    def before_train(self, runner: Runner) -> None:
        """Register the hooks of model and optimiser."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            kind = type(runner.optim_wrapper).__name__
            raise RefusedError(f'optim_wrapper must be an OptimWrapper, with one optimiser, got {kind}')
        model = unwrapped(runner)
        optimizer = runner.optim_wrapper.optimizer
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._buffers = BufferSnapshot(model)
        self._batches: list[Batch] = []  # since the last step
        self._step: Step | None = None  # the optimiser's step in this iteration
        self._unread: list[Step] = []
        self._in_a_row = self._skipped = self._scaler_skipped = 0
        self._last_good = ''
        self._handles = [
            model.register_forward_hook(self._after_forward, with_kwargs=True),
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Save BN's statistics, and record the files of the batch."""
        self._buffers.take()
        self._number = runner.iter + 1
        self._batches.append(Batch(list(files_of(data_batch))))

    def _after_forward(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """Record the losses; if one isn't finite, make the gradients NaN, even if the backward pass wouldn't."""
        if kwargs.get('mode') != 'loss' or not module.training or not self._batches:
            return
        losses: dict[str, list[Tensor]] = {
            name: [value] if isinstance(value, Tensor) else list(value)
            for name, value in output.items()
            if 'loss' in name
        }
        if not losses:
            return
        # Computed as in BaseModel.parse_losses, so that the values are those in the log.
        zero = torch.zeros(())
        terms = {
            name: sum((value.detach().float().mean() for value in values), zero) for name, values in losses.items()
        }
        self._batches[-1].terms = terms
        total = sum(terms.values(), zero)
        factor = torch.where(torch.isfinite(total), 1.0, math.nan)
        for value in (value for values in losses.values() for value in values):
            if value.requires_grad:
                value.register_hook(lambda gradient: gradient * factor.to(gradient.dtype))

    def _before_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        """Keep the optimiser from making a step with a gradient that isn't finite."""
        parameters = [p for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if not parameters:
            return
        # All norms in one call take 6 ms for RTMDet-s on one CPU thread; the maxima took 69 ms.
        finite = torch.isfinite(torch.stack(torch._foreach_norm([p.grad for p in parameters])))
        invalid = ~finite.all()
        names = [self._names.get(parameter, '?') for parameter in parameters]
        self._step = Step(self._number, self._batches, invalid, finite, names)
        self._own_flag = False
        if getattr(optimizer, 'found_inf', None) is not None:
            return  # a loss scaler has already set it
        # Checked in each step, because the checkpoint of an optimiser that isn't fused restores that setting.
        if all(group.get('fused') for group in optimizer.param_groups):
            # Private protocol of PyTorch's fused optimisers, which its types don't declare.
            optimizer.found_inf = invalid.float()  # pyright: ignore[reportAttributeAccessIssue]
            self._own_flag = True
        elif invalid:
            for parameter in parameters:
                parameter.grad = None  # the optimiser skips it, including momentum and weight decay

    def _after_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        if self._step is not None and self._own_flag:
            del optimizer.found_inf  # pyright: ignore[reportAttributeAccessIssue]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Restore BN's statistics if the step was skipped; process the flags on the host if they are due."""
        step, self._step = self._step, None
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        due = runner.optim_wrapper.should_update()
        if step is None and due and scaler is not None:
            # The scaler found non-finite gradients and didn't call the optimiser.
            step = Step(self._number, self._batches, torch.tensor(True), None, [])
        self._buffers.restore_if(False if step is None else step.invalid)
        if step is not None:
            self._unread.append(step)
        if due:
            self._batches = []
        if all(step.invalid.is_cpu for step in self._unread) or len(self._unread) >= self.max_consecutive:
            self._process_unread(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Process the remaining steps before a checkpoint is written, and log the numbers."""
        self._process_unread(runner)
        if self._skipped or self._scaler_skipped:
            runner.logger.warning(
                f'Epoch {runner.epoch + 1}: {self._skipped} steps skipped because of a loss or gradient that is not '
                f'finite; {self._scaler_skipped} by the loss scaler, which then lowered its scale.'
            )
        self._skipped = self._scaler_skipped = 0

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks of model and optimiser."""
        for handle in self._handles:
            handle.remove()

    def _process_unread(self, runner: Runner) -> None:
        """Read the flags of recent steps and act on them, in the same way in all processes."""
        steps, self._unread = self._unread, []
        for step in steps:
            if not step.invalid:
                self._in_a_row = 0
                continue
            reports = all_gather_object(report_of(step))
            if all(report['finite'] for report in reports) and scale_of(runner.optim_wrapper) > 1:
                self._scaler_skipped += 1
                continue
            if not self._in_a_row:
                self._last_good = pointed_to(runner.work_dir) or ''
            self._in_a_row += 1
            self._skipped += 1
            text = describe(step.number, reports)
            if self._skipped <= MAX_LOGGED:
                runner.logger.warning(text)
            if self._in_a_row >= self.max_consecutive:
                raise InvalidLossError(
                    f'{self._in_a_row} steps in a row had no finite loss and gradient; none of them changed the '
                    f'weights. {text}\nLast checkpoint before them: {self._last_good or "none was written"}. If every '
                    'step fails, the learning rate is too high for the batch size, or the weights were not finite '
                    'before; a broken annotation causes this only in steps with its file, listed above.'
                )


def files_of(data_batch: Any) -> Iterator[str]:
    """Yield the file of each sample, or its `img_id`; images that mosaic and MixUp added aren't included."""
    samples = data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []
    for sample in samples:
        yield str(getattr(sample, 'img_path', None) or getattr(sample, 'img_id', '?'))


def scale_of(optim_wrapper: OptimWrapper) -> float:
    """Return the loss scale of mixed precision with float16, or 1 without a loss scaler."""
    scaler = getattr(optim_wrapper, 'loss_scaler', None)
    return 1.0 if scaler is None else scaler.get_scale()


def report_of(step: Step) -> dict[str, Any]:
    """Return this process's information about a step as plain values, to send to the other processes.

    Returns:
        `finite`: whether all losses are finite; `losses` and `files`: those of the batches with a non-finite loss, or
        of all batches if there is none; `gradients`: names of the parameters with a non-finite gradient.
    """
    batches = [(batch.files, {name: float(value) for name, value in batch.terms.items()}) for batch in step.batches]
    invalid = [batch for batch in batches if not math.isfinite(sum(batch[1].values()))]
    shown = invalid or batches
    finite = [] if step.finite is None else step.finite.tolist()
    return dict(
        finite=not invalid,
        losses=[terms for _, terms in shown],
        files=[file for files, _ in shown for file in files],
        gradients=[name for name, is_finite in zip(step.names, finite, strict=False) if not is_finite],
    )


def describe(number: int, reports: list[dict[str, Any]]) -> str:
    """Describe a skipped step in text.

    Args:
        number: number of the step in the run, from 1.
        reports: result of `report_of` of each process, by rank.
    """
    invalid = {rank: report for rank, report in enumerate(reports) if not report['finite']}
    lines = []
    if not invalid:
        names = reports[0]['gradients']
        rest = f' and of {len(names) - 3} more' if len(names) > 3 else ''
        parameters = f' of {", ".join(names[:3])}{rest}' if names else ''
        lines.append(f'Step {number} skipped: the losses are finite, the gradient{parameters} is not.')
    else:
        lines.append(f'Step {number} skipped: a loss is not finite.')
    for rank, report in (invalid or dict(enumerate(reports))).items():
        values = '; '.join(
            ', '.join(f'{name}={value:.4g}' for name, value in terms.items()) for terms in report['losses']
        )
        process = f'process {rank}: ' if len(reports) > 1 else ''
        lines.append(f'  {process}{values}. Files: {", ".join(report["files"]) or "not known"}')
    return '\n'.join(lines)
