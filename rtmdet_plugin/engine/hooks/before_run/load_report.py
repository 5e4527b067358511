"""A few lines in the log on what a checkpoint gave to the model, and an error where it gave next to nothing.

mmengine loads a checkpoint with `strict=False`: what doesn't fit is skipped, and a warning lists every tensor.
A model that begins nearly untrained, its checkpoint being of another size, looks like a poor learning rate then, and
one that is tested with a random class head like a poor model.
"""

import logging

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from ....checkpoints.comparison import LoadReport, compare
from ....errors import RefusedError
from ..built_loops import built_loops
from ..unwrapped import unwrapped


@HOOKS.register_module()
class RTMLoadReportHook(Hook):
    """Log what `load_from` or `resume` loads, and stop where the checkpoint is of another model.

    In training, a head for other classes is no reason to stop: only a few tensors have another shape then. A
    checkpoint of a backbone alone isn't either: all that it holds fits. What is validated or tested without
    training must be in the checkpoint as a whole; other tensors may be there beside it.

    Raises:
        RefusedError: where no more than half of the tensors that model and checkpoint both name fit; outside
            training, where a tensor has another shape or is missing (BN's `num_batches_tracked` may be).
    """

    # Before the EMA hook (49), which loads the checkpoint into its own copy and says less about misfits.
    priority = 'HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare; mmengine calls this before it copies anything."""
        if 'state_dict' not in checkpoint:  # bare weights, which mmengine's EMA hook doesn't know
            checkpoint['state_dict'] = dict(checkpoint)
        model = unwrapped(runner)
        report = compare(model.state_dict(), checkpoint['state_dict'])
        if len(report.fitting) <= len(report.other_shape):
            raise RefusedError(misfit_message(report, checkpoint_source(runner)))
        if only_evaluates(runner) and (report.other_shape or report.missing):
            head = f'{checkpoint_source(runner)} does not hold all of the model that is to be evaluated:'
            accepted = 'Accepted: a checkpoint of the same model, with the same number of classes.'
            raise RefusedError('\n'.join([head, *report.lines(), accepted]))
        level = logging.INFO if report.complete else logging.WARNING
        for line in report.lines():
            runner.logger.log(level, line)


def only_evaluates(runner: Runner) -> bool:
    """Whether the run is `Runner.val()` or `Runner.test()` by itself: each call builds its loops before it loads."""
    loops = built_loops(runner)
    return bool(loops) and 'train' not in loops


def checkpoint_source(runner: Runner) -> str:
    """The option that a checkpoint came by, and its file; `--resume` alone takes the latest one."""
    if not runner._resume:
        return f'load_from={runner._load_from!r}'
    return f'resume from {runner._load_from or find_latest_checkpoint(runner.work_dir)!r}'


def misfit_message(report: LoadReport, source: str) -> str:
    """Why a checkpoint can't serve, with a table of what didn't fit."""
    both = len(report.fitting) + len(report.other_shape)
    lines = [
        f'{source} does not fit this model: {len(report.fitting)} of the {both} tensors that both name have the same '
        'shape. A checkpoint of the same size (deepen_factor, widen_factor) is accepted, with any number of classes.'
    ]
    return '\n'.join([*lines, *report.table()])
