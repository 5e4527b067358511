"""Report in a few log lines which tensors of a checkpoint the model loads; refuse a checkpoint that hardly fits.

mmengine loads a checkpoint with `strict=False`: it skips tensors that don't fit, and a warning lists each of them. If
the checkpoint is of another model size, training starts with nearly random weights, which looks like a poor learning
rate. A model that is tested with a random class head looks like a poor model.
"""

import logging

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from ....checkpoints.comparison import LoadReport, compare
from ....checkpoints.fit_to_model import fit_to_model
from ....errors import RefusedError
from ..built_loops import built_loops
from ..unwrapped import unwrapped


@HOOKS.register_module()
class RTMLoadReportHook(Hook):
    """Log what `load_from` or `resume` loads, and stop the run if the checkpoint is of another model.

    Training accepts a checkpoint with a head for other classes, of which only a few tensors have another shape, and a
    checkpoint that holds only a backbone, of which all tensors fit. Validation or testing without training needs a
    checkpoint with all tensors of the model; additional tensors are ignored.

    Raises:
        RefusedError: if at most half of the tensors that are in both model and checkpoint have the same shape; without
            training, if a tensor has another shape or is missing, except BN's `num_batches_tracked`; if only one of
            model and checkpoint predicts masks, unless a training starts from it.
    """

    # Before the EMA hook (49), which loads the checkpoint into its own copy and reports less about misfits.
    priority = 'HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the tensors; mmengine calls this before it copies any."""
        if 'state_dict' not in checkpoint:  # a bare state dict, which mmengine's EMA hook can't handle
            checkpoint['state_dict'] = dict(checkpoint)
        model = unwrapped(runner)
        fit_checkpoint(runner, model, checkpoint)
        report = compare(model.state_dict(), checkpoint['state_dict'])
        if len(report.fitting) <= len(report.other_shape):
            raise RefusedError(misfit_message(report, checkpoint_source(runner)))
        if report.other_task:
            source, advice = checkpoint_source(runner), 'use the config that it was trained with'
            if only_evaluates(runner):
                raise RefusedError(f'{source} does not fit: {report.other_task}; {advice}')
            if runner._resume:  # the optimiser's state is that of other parameters
                advice += ', or start a new run from it: --cfg-options load_from=FILE, without --resume'
                raise RefusedError(f'{source} does not fit: {report.other_task}; {advice}')
            runner.logger.warning(f'{source}: {report.other_task}; layers that it lacks are trained from scratch')
        if only_evaluates(runner) and (report.other_shape or report.missing):
            head = f'{checkpoint_source(runner)} does not hold all tensors of the model that is to be evaluated:'
            advice = 'The checkpoint must be of the same model, with the same number of classes.'
            raise RefusedError('\n'.join([head, *report.lines(), advice]))
        level = logging.INFO if report.complete else logging.WARNING
        for line in report.lines():
            runner.logger.log(level, line)


def fit_checkpoint(runner: Runner, model: nn.Module, checkpoint: dict) -> None:
    """Rename or drop weights of a checkpoint in place, before the report and the EMA hook; see `fit_to_model`.

    Raises:
        RefusedError: see `fit_to_model`; also if a run of mmyolo is to be resumed.
    """
    weights = checkpoint['state_dict']
    fitted = fit_to_model(model, weights, checkpoint.get('meta'), checkpoint_source(runner))
    checkpoint['state_dict'] = fitted
    if fitted.keys() <= weights.keys():
        return
    if runner._resume:
        raise RefusedError(
            f"{checkpoint_source(runner)} must be a checkpoint of this stack, got mmyolo's, whose optimiser has the "
            'parameters in another order; start a new run from it: --cfg-options load_from=FILE, without --resume'
        )
    runner.logger.info("The checkpoint is mmyolo's; its weights were renamed.")


def only_evaluates(runner: Runner) -> bool:
    """Return whether the run only validates or tests; `Runner.val()` and `.test()` build their loops before loading."""
    loops = built_loops(runner)
    return bool(loops) and 'train' not in loops


def checkpoint_source(runner: Runner) -> str:
    """Return the option that selected the checkpoint, and its file; `--resume` without a file takes the latest one."""
    if not runner._resume:
        return f'load_from={runner._load_from!r}'
    return f'resume from {runner._load_from or find_latest_checkpoint(runner.work_dir)!r}'


def misfit_message(report: LoadReport, source: str) -> str:
    """Describe why a checkpoint can't be used, with a table of the tensors that don't fit."""
    both = len(report.fitting) + len(report.other_shape)
    lines = [
        f'{source} does not fit this model: {len(report.fitting)} of the {both} tensors that are in both have the same '
        'shape. The checkpoint must be of the same size (deepen_factor, widen_factor), with any number of classes.'
    ]
    return '\n'.join([*lines, *report.table()])
