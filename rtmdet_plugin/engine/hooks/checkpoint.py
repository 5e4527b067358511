"""Checkpoints that survive a kill or a full disk at any moment.

Deliberate differences from mmengine's CheckpointHook:
- All files are written atomically, including `last_checkpoint`, which is written after the file that it names.
- An older checkpoint, regular or best, is removed only after the newer one is on the disk (mmengine: before).
- `--resume` checks the file first, and falls back to an older one, with a warning, if it is damaged.
- A run never replaces the checkpoints of another run: it is refused, or, with `allow_overwrite`, moves them to a
  subfolder.
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

from rtmdet_runtime.atomic_files import remove_partial_files, write_atomically

from ...checkpoints.atomic_backend import ATOMIC
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


@HOOKS.register_module()
class RTMCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook` with atomic writes; the module's docstring lists the differences.

    Args:
        args: arguments of mmengine's hook.
        allow_overwrite: whether a run may use the folder of an earlier run that it doesn't continue; the earlier
            checkpoints are moved to the subfolder `earlier_<time>`.
        kwargs: arguments of mmengine's hook.

    Raises:
        RefusedError: before the first step, if the folder holds checkpoints of an earlier run, and the run neither
            continues it nor has `allow_overwrite` (folders that aren't on a local disk aren't checked); on
            `--resume`, if there are checkpoints and all of them are damaged.
        OSError: if a checkpoint can't be written; the message names the last good one.
    """

    def __init__(self, *args: Any, allow_overwrite: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.allow_overwrite = allow_overwrite

    def before_run(self, runner: Runner) -> None:
        """Choose the file that `--resume` loads; mmengine loads it after this."""
        if runner._resume and runner._load_from is None:
            runner._load_from = latest_usable(runner.work_dir)
            if runner._load_from is None:
                runner.logger.warning(f'No checkpoint to resume from in {runner.work_dir}: starting from scratch.')

    def before_train(self, runner: Runner) -> None:
        """Determine the folder of the checkpoints, and remove partial files that a killed run left there."""
        super().before_train(runner)
        # Otherwise the first best checkpoint after a resume would not be recorded in a regular one.
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        if self.backend_args is None and self.file_client_args is None and isinstance(self.file_backend, LocalBackend):
            self.backend_args = ATOMIC
            self._protect_earlier_run(runner)
            if is_main_process():
                for folder in (self.out_dir, runner.work_dir):
                    remove_partial_files(folder)

    def _protect_earlier_run(self, runner: Runner) -> None:
        """Refuse to replace the checkpoints of an earlier run, or move them; the main process decides for all."""
        # `interrupted.pth` is always in the work directory, but the others may be written to another folder.
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
            for path, content in runner.replaced_configs.items():  # set by compat/config_dump.py
                write_atomically(path, content)
        resumable = 'to continue that run, add --resume; ' if candidates(runner.work_dir) else ''
        raise RefusedError(
            f'{self.out_dir} holds checkpoints of an earlier run, which this run would replace: {listed}. Choose: '
            f'{resumable}to keep them, another --work-dir; to move them to a subfolder, --cfg-options '
            'default_hooks.checkpoint.allow_overwrite=True'
        )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save the checkpoint, update `last_checkpoint`, then remove outdated checkpoints, in this order."""
        ids = []
        if self.max_keep_ckpts > 0:
            ids = [*(kept for kept in self.keep_ckpt_ids if kept != step), step]
            # Includes the outdated one: if the run is killed before it is removed, the resumed run removes it.
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
            advice = f'the last good one is {good}, use --resume to continue' if good else 'there is no older one'
            raise OSError(
                error.errno, f'{self.last_ckpt} cannot be written ({error.strerror or error}); {advice}'
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
        """Save the best checkpoint as mmengine does, but remove the older best one last."""
        backend = self.file_backend
        self.file_backend = deferred = _DeferredRemoval(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = {value for key, value in runner.message_hub.runtime_info.items() if key.startswith('best_ckpt')}
        for path in deferred.outdated:
            if path not in best:  # it is, if the same epoch was validated again after a resume
                backend.remove(path)


def move_to_subfolder(paths: list[Path], name: str) -> None:
    """Move files to the subfolder `name` of their folder; skip files that don't exist."""
    for path in paths:
        if path.exists():
            (path.parent / name).mkdir(exist_ok=True)
            shutil.move(path, path.parent / name / path.name)


class _DeferredRemoval:
    """A file backend that records the files to remove instead of removing them."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.outdated.append(path)
