"""Checkpoints that survive a kill or a full disk at any moment.

Deliberate differences from mmengine's CheckpointHook:
- Files appear whole or not at all, `last_checkpoint` included, and `last_checkpoint` follows the file that it names.
- An older checkpoint goes when the newer one is on the disk (mmengine: before), the older best one too.
- `--resume` looks at the file first, and steps back past a damaged one with a warning.
- A run never replaces the checkpoints of another one: it is refused, or moves them to a subfolder if it is told to.
"""

import shutil
from collections import deque
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...checkpoints.atomic_file import remove_partial_files, write_atomically
from ...checkpoints.latest import (
    INTERRUPTED,
    POINTER,
    candidates,
    latest_usable,
    left_by_earlier_run,
    point_to,
    pointed_to,
)
from ...errors import RefusedError

ATOMIC = dict(backend='rtm_atomic')


@HOOKS.register_module()
class RTMCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, with its arguments and one more; see the module.

    Args:
        allow_overwrite: whether a run may use the folder of an earlier one that it doesn't continue; the earlier
            checkpoints are moved to the subfolder `earlier_<time>`.

    Raises:
        RefusedError: before the first step, if the folder holds checkpoints of an earlier run, and the run neither
            continues it nor has `allow_overwrite` (folders that aren't on a local disk are not looked at); on
            `--resume`, if there are checkpoints and all of them are damaged.
        OSError: where a checkpoint can't be written; it names the last good one.
    """

    def __init__(self, *args: Any, allow_overwrite: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_overwrite = allow_overwrite

    def before_run(self, runner: Runner) -> None:
        """Choose the file that `--resume` takes; mmengine loads after this."""
        if runner._resume and runner._load_from is None:
            runner._load_from = latest_usable(runner.work_dir)
            if runner._load_from is None:
                runner.logger.warning(f'Nothing to resume from in {runner.work_dir} yet: starting from scratch.')

    def before_train(self, runner: Runner) -> None:
        """Find out where checkpoints go, and clear away what a killed run left there."""
        super().before_train(runner)
        # Without it the first best checkpoint after a resume would not be noted in a regular one.
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        if self.backend_args is None and self.file_client_args is None and isinstance(self.file_backend, LocalBackend):
            self.backend_args = ATOMIC
            self._protect_earlier_run(runner)
            if is_main_process():
                for folder in (self.out_dir, runner.work_dir):
                    remove_partial_files(folder)

    def _protect_earlier_run(self, runner: Runner) -> None:
        """Refuse to replace the checkpoints of an earlier run, or move them; the main process looks for all."""
        # `interrupted.pth` is in the work directory, wherever the others go.
        folders = {Path(folder).resolve() for folder in (self.out_dir, runner.work_dir)}
        if runner._resume and runner._load_from and Path(runner._load_from).resolve().parent in folders:
            return
        found = [[path for folder in folders for path in left_by_earlier_run(folder, self.filename_tmpl)]]
        broadcast_object_list(found)
        paths = found[0]
        if not paths:
            return
        names = [path.name for path in paths]
        listed = ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')
        if self.allow_overwrite:
            if is_main_process():
                move_to_subfolder([*paths, Path(runner.work_dir, POINTER)], f'earlier_{runner.timestamp}')
            runner.logger.warning(f'{self.out_dir}: moved to the subfolder earlier_{runner.timestamp}: {listed}')
            return
        if is_main_process():
            for path, content in runner.replaced_configs.items():  # of compat/config_dump.py
                write_atomically(path, content)
        resumable = 'to continue that run, add --resume; ' if candidates(runner.work_dir) else ''
        raise RefusedError(
            f'{self.out_dir} holds checkpoints of an earlier run, which this one would replace: {listed}. Choose: '
            f'{resumable}to keep them, another --work-dir; to move them to a subfolder, --cfg-options '
            'default_hooks.checkpoint.allow_overwrite=True'
        )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save, let `last_checkpoint` name the file, remove what is one too many; in this order."""
        ids = []
        if self.max_keep_ckpts > 0:
            ids = [*(kept for kept in self.keep_ckpt_ids if kept != step), step]
            # With the one that is about to go: a run that is killed before it went will remove it when it resumes.
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                point_to(runner.work_dir, self.last_ckpt)
        except OSError as error:
            good = pointed_to(runner.work_dir)
            advice = f'the last good one is {good}, --resume goes on from it' if good else 'there is no older one'
            raise OSError(
                error.errno, f'{self.last_ckpt} can not be written ({error.strerror or error}); {advice}'
            ) from error

        if is_main_process():
            Path(runner.work_dir, INTERRUPTED).unlink(missing_ok=True)
        if ids:
            outdated, kept = ids[: -self.max_keep_ckpts], ids[-self.max_keep_ckpts :]
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            for path in (self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(i)) for i in outdated):
                if is_main_process() and self.file_backend.isfile(path):
                    self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """As mmengine does, but the older best one goes last."""
        backend = self.file_backend
        self.file_backend = waiting = _RemoveLater(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = {value for key, value in runner.message_hub.runtime_info.items() if key.startswith('best_ckpt')}
        for path in waiting.outdated:
            if path not in best:  # an epoch that was validated again after a resume
                backend.remove(path)


def move_to_subfolder(paths: list[Path], name: str) -> None:
    """Move files to the subfolder `name` of their folder; those that aren't there are skipped."""
    for path in paths:
        if path.exists():
            (path.parent / name).mkdir(exist_ok=True)
            shutil.move(path, path.parent / name / path.name)


class _RemoveLater:
    """A file backend that notes what is to be removed."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.outdated.append(path)
