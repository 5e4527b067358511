"""Leave out a training step whose loss or gradient isn't finite, say whose fault it was, and stop where it goes on.

mmdet's `CheckInvalidLossHook` looks every 50 steps and ends the run with an assertion; by then weights, momentum, BN's
statistics and the averaged weights hold the NaN, and perhaps a checkpoint. Here none of them gets it:

- *The decision is made on the gradients, after they were summed over the processes*, so all of them make the same one
  without asking each other. A loss that isn't finite makes the gradients NaN that flow from it.
- *Through PyTorch's public hooks on model and optimiser*, so any `OptimWrapper` will do, `--amp` included. A sum of
  several batches (`accumulative_counts`) is left out as a whole.
- *The host doesn't wait.* Fused optimisers (those that `RTMOptimWrapperConstructor` makes) are told on the device to
  skip, as a loss scaler tells them, and BN's statistics are chosen there. On a GPU the verdicts are read every
  `max_consecutive` steps. Another optimiser costs one synchronisation a step there.
- *A loss scaler's own skips are told apart*: where the losses are finite and the scale is above 1, the gradient
  overflowed because it was scaled, and the scaler knows what to do.

The averaged weights and the schedules take their step: towards the weights as they are.
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

MAX_TOLD = 20  # steps that are described in an epoch; all are counted


class InvalidLossError(RefusedError, FloatingPointError):
    """Too many steps in a row had no finite loss and gradient."""


@dataclass
class Batch:
    """What one forward pass of this process was about."""

    files: list[str]
    terms: dict[str, Tensor] = field(default_factory=dict)  # name of the loss: its sum, on the device


@dataclass
class Step:
    """One step of the optimiser, with what will be needed to tell of it."""

    number: int
    batches: list[Batch]
    invalid: Tensor  # a bool, on the device
    finite: Tensor | None  # of each parameter with a gradient. (P,)
    names: list[str]  # of these parameters


@HOOKS.register_module()
class RTMCheckInvalidLossHook(Hook):
    """Skip steps with a non-finite loss or gradient; count and describe them.

    Args:
        max_consecutive: the run stops after this number of such steps in a row.

    Raises:
        RefusedError: where `max_consecutive` is below 1, or the run has more than one optimiser.
        InvalidLossError: after `max_consecutive` steps in a row; names the last checkpoint from before them.
    """

    # After the losses are noted for the log (10), before the averaged weights (49) look at the buffers.
    priority = 'HIGH'

    def __init__(self, max_consecutive: int = 10) -> None:
        if max_consecutive < 1:
            raise RefusedError(f'max_consecutive={max_consecutive}: expected 1 step or more')
        self.max_consecutive = max_consecutive

    def before_train(self, runner: Runner) -> None:
        """Attach to model and optimiser."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            kind = type(runner.optim_wrapper).__name__
            raise RefusedError(f'optim_wrapper is a {kind}; accepted: an OptimWrapper, of one optimiser')
        model = unwrapped(runner)
        optimizer = runner.optim_wrapper.optimizer
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._buffers = BufferSnapshot(model)
        self._batches: list[Batch] = []  # since the last step
        self._step: Step | None = None  # that the optimiser was asked for in this iteration
        self._unread: list[Step] = []
        self._in_a_row = self._skipped = self._scaler_skipped = 0
        self._last_good = ''
        self._handles = [
            model.register_forward_hook(self._after_forward, with_kwargs=True),
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember BN's statistics and the files of the batch."""
        self._buffers.take()
        self._number = runner.iter + 1
        self._batches.append(Batch(list(files_of(data_batch))))

    def _after_forward(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """Note the losses; make the gradients NaN where one of them isn't finite, whatever the way back would do."""
        if kwargs.get('mode') != 'loss' or not module.training or not self._batches:
            return
        losses = {
            name: [value] if isinstance(value, Tensor) else list(value)
            for name, value in output.items()
            if 'loss' in name
        }
        if not losses:
            return
        # As BaseModel.parse_losses has it, so that the values are those of the log.
        terms = {name: sum(value.detach().float().mean() for value in values) for name, values in losses.items()}
        self._batches[-1].terms = terms
        total = sum(terms.values())
        factor = torch.where(torch.isfinite(total), 1.0, math.nan)
        for value in (value for values in losses.values() for value in values):
            if value.requires_grad:
                value.register_hook(lambda gradient: gradient * factor.to(gradient.dtype))

    def _before_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        """Keep the optimiser from a step with a gradient that isn't finite."""
        parameters = [p for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if not parameters:
            return
        # By their norms, in one call: RTMDet-s 6 ms on one CPU thread, where the largest values took 69.
        finite = torch.isfinite(torch.stack(torch._foreach_norm([p.grad for p in parameters])))
        invalid = ~finite.all()
        names = [self._names.get(parameter, '?') for parameter in parameters]
        self._step = Step(self._number, self._batches, invalid, finite, names)
        self._own_flag = False
        if getattr(optimizer, 'found_inf', None) is not None:
            return  # a loss scaler has told it already
        # A checkpoint of an optimiser that isn't fused brings its setting along.
        if all(group.get('fused') for group in optimizer.param_groups):
            optimizer.found_inf = invalid.float()
            self._own_flag = True
        elif invalid:
            for parameter in parameters:
                parameter.grad = None  # what has no gradient is left alone, momentum and weight decay included

    def _after_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        if self._step is not None and self._own_flag:
            del optimizer.found_inf

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Take BN's statistics back where the step was skipped; read the verdicts where that costs nothing."""
        step, self._step = self._step, None
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        due = runner.optim_wrapper.should_update()
        if step is None and due and scaler is not None:
            # The scaler has found the gradients infinite, and didn't ask the optimiser.
            step = Step(self._number, self._batches, torch.tensor(True), None, [])
        self._buffers.restore_where(False if step is None else step.invalid)
        if step is not None:
            self._unread.append(step)
        if due:
            self._batches = []
        if all(step.invalid.is_cpu for step in self._unread) or len(self._unread) >= self.max_consecutive:
            self._read(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Read what is left, before a checkpoint is written, and tell the numbers."""
        self._read(runner)
        if self._skipped or self._scaler_skipped:
            runner.logger.warning(
                f'Epoch {runner.epoch + 1}: {self._skipped} steps left out because of a loss or gradient that is not '
                f'finite; {self._scaler_skipped} by the loss scaler, which then lowered its scale.'
            )
        self._skipped = self._scaler_skipped = 0

    def after_train(self, runner: Runner) -> None:
        """Detach."""
        for handle in self._handles:
            handle.remove()

    def _read(self, runner: Runner) -> None:
        """Bring the verdicts to the host and act on them; the same in all processes."""
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
            if self._skipped <= MAX_TOLD:
                runner.logger.warning(text)
            if self._in_a_row >= self.max_consecutive:
                raise InvalidLossError(
                    f'{self._in_a_row} steps in a row without a finite loss and gradient; none of them changed the '
                    f'weights. {text}\nLast checkpoint from before: {self._last_good or "none was written"}. A '
                    'learning rate that is too high for the batch, or weights that were broken before, do this in '
                    'every step; a broken annotation only where its file is among those above.'
                )


def files_of(data_batch: Any) -> Iterator[str]:
    """The file of each sample, else its `img_id`; mosaic and MixUp add pictures that aren't named."""
    samples = data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []
    for sample in samples:
        yield str(getattr(sample, 'img_path', None) or getattr(sample, 'img_id', '?'))


def scale_of(optim_wrapper: OptimWrapper) -> float:
    """The loss scale of mixed precision with float16; 1 without."""
    scaler = getattr(optim_wrapper, 'loss_scaler', None)
    return 1.0 if scaler is None else scaler.get_scale()


def report_of(step: Step) -> dict[str, Any]:
    """What this process can tell of a step, as plain values for the others."""
    batches = [(batch.files, {name: float(value) for name, value in batch.terms.items()}) for batch in step.batches]
    at_fault = [batch for batch in batches if not math.isfinite(sum(batch[1].values()))]
    shown = at_fault or batches
    finite = [] if step.finite is None else step.finite.tolist()
    return dict(
        finite=not at_fault,
        losses=[terms for _, terms in shown],
        files=[file for files, _ in shown for file in files],
        gradients=[name for name, is_finite in zip(step.names, finite, strict=False) if not is_finite],
    )


def describe(number: int, reports: list[dict[str, Any]]) -> str:
    """One step, in words.

    Args:
        number: of the step in the run, from 1.
        reports: of each process, by `report_of`.
    """
    at_fault = {rank: report for rank, report in enumerate(reports) if not report['finite']}
    lines = []
    if not at_fault:
        names = reports[0]['gradients']
        rest = f' and of {len(names) - 3} more' if len(names) > 3 else ''
        where = f' of {", ".join(names[:3])}{rest}' if names else ''
        lines.append(f'Step {number} left out: the losses are finite, the gradient{where} is not.')
    else:
        lines.append(f'Step {number} left out: a loss is not finite.')
    for rank, report in (at_fault or dict(enumerate(reports))).items():
        values = '; '.join(
            ', '.join(f'{name}={value:.4g}' for name, value in terms.items()) for terms in report['losses']
        )
        process = f'process {rank}: ' if len(reports) > 1 else ''
        lines.append(f'  {process}{values}. Files: {", ".join(report["files"]) or "not known"}')
    return '\n'.join(lines)
