"""Train with a frozen teacher until stage 2: the student's neck learns to give the features of a larger RTMDet.

The model of the run is the student itself, without any change. This hook holds the teacher and the connectors, adds the
loss `loss_distill` to the student's losses, and the connectors to its optimiser. So:

- *The teacher never changes*: it is in evaluation mode, has no gradients, and neither the optimiser, nor the averaged
  weights, nor the model wrapper, nor a checkpoint contains it.
- *Weights in checkpoints are the student's.* `state_dict` and `ema_state_dict` have the keys of a plain run, so they
  load anywhere, and the config exports like any other. Until stage 2, a checkpoint to resume from has the connectors in
  its entry `distillation`, and their optimiser state in `optimizer`; published and best checkpoints have neither.
- *Resume is exact*: the connectors are restored before mmengine restores the optimiser.
- *Nothing is left in stage 2*: teacher and connectors are removed from memory, optimiser and checkpoints. A run that is
  resumed in stage 2 doesn't need the teacher's files.
- *Several processes*: the connectors have their own DDP. The model's DDP doesn't know them, so it needs no
  `find_unused_parameters` before or after the switch.
- *Mixed precision*: the teacher runs in the student's forward pass, with its precision; the loss is float32.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmdet.models import BaseDetector
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader, Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ...checkpoints.load_model import load_model, read_config
from ...datasets.tree import leaf_datasets
from ...errors import RefusedError
from ...models.distillation import FeatureRecorder, NeckDistillationLoss, output_convs
from .pipeline_switch import RTMPipelineSwitchHook
from .unwrapped import unwrapped

KEY = 'distillation'
"""Entry of a checkpoint with the connectors."""
LOSS = 'loss_distill'
"""Name of the loss in the log."""


@HOOKS.register_module()
class RTMDistillationHook(Hook):
    """Distil the neck of a trained RTMDet into the model of the run, until stage 2.

    Stage 2 begins when `RTMPipelineSwitchHook` or mmdet's `PipelineSwitchHook` switches; without one of them,
    distillation lasts for the whole run.

    Args:
        teacher_config: config of the teacher: a file, or the name of a shipped one, `rtmdet_plugin::rtmdet_m.py`.
        teacher_ckpt: file or URL of its weights, mmdet's, ours or mmyolo's.
        tau: temperature of the divergence.
        loss_weight: factor of the divergence of each level.

    Raises:
        RefusedError: if `tau` isn't positive or `loss_weight` is negative; before the first step, if the teacher can't
            be loaded, or differs from the student in its input normalisation, strides or classes; if the run has more
            than one optimiser.
    """

    def __init__(self, teacher_config: str, teacher_ckpt: str, tau: float = 1.0, loss_weight: float = 1.0) -> None:
        if tau <= 0:
            raise RefusedError(f'tau must be positive, got {tau}')
        if loss_weight < 0:
            raise RefusedError(f'loss_weight must be at least 0, got {loss_weight}')
        self.teacher_config = teacher_config
        self.teacher_ckpt = teacher_ckpt
        self.tau = tau
        self.loss_weight = loss_weight
        self._end: float = math.inf  # epoch in which distillation is over
        self._loss: NeckDistillationLoss | None = None
        self._compute: Any = None  # the loss, or its DDP
        self._teacher: Any = None  # backbone and neck
        self._recorders: list[FeatureRecorder] = []  # of the student and of the teacher
        self._handle: Any = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the connectors on `--resume`; mmengine restores the optimiser, which needs them, after this."""
        connectors = checkpoint.get(KEY)
        if runner._resume and connectors is not None:
            teacher, student = zip(*(weight.shape[:2] for weight in connectors.values()), strict=True)
            self._add_connectors(runner, student, teacher).load_state_dict(connectors)

    def before_train(self, runner: Runner) -> None:
        """Load the teacher and check that it fits, unless stage 2 has begun."""
        self._end = stage_2_epoch(runner.hooks, runner.max_epochs)
        if runner.epoch >= self._end:
            self._remove_connectors(runner)
            runner.logger.info('Stage 2 has begun: no distillation.')
            return
        student = unwrapped(runner)
        teacher = load_teacher(self.teacher_config, self.teacher_ckpt)
        classes = leaf_datasets(runner.train_dataloader.dataset)[0].metainfo.get('classes')
        try:
            convs = [output_convs(model.neck) for model in (student, teacher)]
            check_pair(student, teacher, classes)
        except ValueError as error:
            raise RefusedError(f'teacher_config={self.teacher_config!r}: {error}') from None
        loss = self._connectors_for(runner, *([conv.out_channels for conv in own] for own in convs))
        self._compute = DistributedDataParallel(loss) if runner.distributed else loss
        weight = next(student.backbone.parameters())
        in_channels_last = not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)
        self._teacher = nn.Sequential(teacher.backbone, teacher.neck).eval().to(weight.device)
        if in_channels_last:
            self._teacher.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  missing in its stub
        self._recorders = [FeatureRecorder(own) for own in convs]
        # Before the other hooks on the model, such as the check for losses that aren't finite.
        self._handle = student.register_forward_hook(self._add_loss, with_kwargs=True, prepend=True)
        millions = sum(parameter.numel() for parameter in self._teacher.parameters()) / 1e6
        until = 'in all epochs' if self._end == math.inf else f'until epoch {self._end}'
        runner.logger.info(
            f'Distillation {until}, from {self.teacher_ckpt}: {millions:.2f} M parameters in backbone and neck.'
        )

    def before_train_epoch(self, runner: Runner) -> None:
        """Release the teacher and the connectors when stage 2 begins."""
        if self._teacher is not None and runner.epoch >= self._end:
            self._release_teacher()
            self._remove_connectors(runner)
            runner.logger.info(f'Distillation ended with epoch {runner.epoch}; the teacher is released.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the connectors next to the optimiser, whose state contains theirs."""
        if self._loss is not None and 'optimizer' in checkpoint:
            checkpoint[KEY] = {name: weight.cpu() for name, weight in self._loss.state_dict().items()}

    def after_train(self, runner: Runner) -> None:
        """Release the teacher, which a run without stage 2 still has."""
        self._release_teacher()

    def _add_loss(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> dict | None:
        """Add the divergence to the losses of the student's forward pass."""
        ours, theirs = self._recorders
        features = ours.take()  # of a validation as well, so that they don't stay in memory
        if kwargs.get('mode') != 'loss' or not model.training:
            return None
        with torch.no_grad():
            self._teacher(kwargs['inputs'])
        return {**output, LOSS: self._compute(features, theirs.take())}

    def _connectors_for(self, runner: Runner, student: Sequence[int], teacher: Sequence[int]) -> NeckDistillationLoss:
        """Return the connectors of the resumed checkpoint, or new ones; refuse those of another teacher."""
        if self._loss is None:
            if runner.iter:
                runner.logger.warning('The resumed checkpoint has no connectors: they start from random weights.')
            return self._add_connectors(runner, student, teacher)
        resumed = [(conv.in_channels, conv.out_channels) for conv in self._loss.connectors]
        if resumed != list(zip(student, teacher, strict=True)):
            raise RefusedError(
                f'teacher_config must be that of the run that is resumed, got {self.teacher_config!r}: the connectors '
                f'in the checkpoint have (student, teacher) channels {resumed}'
            )
        return self._loss

    def _add_connectors(self, runner: Runner, student: Sequence[int], teacher: Sequence[int]) -> NeckDistillationLoss:
        """Create the connectors between the channels of student and teacher, and let the optimiser train them."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            kind = type(runner.optim_wrapper).__name__
            raise RefusedError(f'optim_wrapper must be an OptimWrapper, with one optimiser, got {kind}')
        self._loss = NeckDistillationLoss(student, teacher, tau=self.tau, loss_weight=self.loss_weight)
        self._loss.to(next(unwrapped(runner).parameters()).device)
        add_parameters(runner.optim_wrapper.optimizer, self._loss)
        return self._loss

    def _remove_connectors(self, runner: Runner) -> None:
        """Let the optimiser forget the connectors, and the log the last losses, which it would repeat to the end."""
        if self._loss is not None:
            remove_parameters(runner.optim_wrapper.optimizer, self._loss)
        self._loss = self._compute = None
        runner.message_hub.log_scalars.pop(f'train/{LOSS}', None)

    def _release_teacher(self) -> None:
        if self._teacher is not None:
            self._handle.remove()
            for recorder in self._recorders:
                recorder.remove()
        self._teacher, self._recorders = None, []


def stage_2_epoch(hooks: Sequence[Hook], max_epochs: int) -> float:
    """Return the first epoch of stage 2, counted from 0, or infinity if no hook switches to it."""
    from mmdet.engine.hooks import PipelineSwitchHook  # expensive to import

    for hook in hooks:
        if isinstance(hook, RTMPipelineSwitchHook):
            return hook.switch_epoch(max_epochs)
        if isinstance(hook, PipelineSwitchHook):
            return hook.switch_epoch
    return math.inf


def load_teacher(config: str, checkpoint: str) -> BaseDetector:
    """Load a detector that isn't trained, on the CPU.

    The default scope stays that of the run, although the teacher is built in its own.

    Raises:
        RefusedError: if config or checkpoint don't exist, can't be read, or don't fit each other.
        UnsafeCheckpointError, DamagedCheckpointError: see `load_model`.
    """
    try:
        cfg = read_config(config)
        # The teacher's boxes aren't used, so the checkpoint may be of a model that decodes them otherwise, as mmyolo's.
        if 'exp_on_reg' in cfg.model.get('bbox_head', {}):
            cfg.model.bbox_head.exp_on_reg = None
        with DefaultScope.overwrite_default_scope('mmdet'):  # ends with the scope of the run, whatever is set within
            return load_model(cfg, local_file(checkpoint)).requires_grad_(False)
    except (ValueError, FileNotFoundError) as error:
        raise RefusedError(f'teacher_config={config!r}, teacher_ckpt={checkpoint!r}: {error}') from None


def local_file(checkpoint: str) -> Path:
    """Return the path of a checkpoint; one at a URL is downloaded to PyTorch's cache first, unless it is there.

    Raises:
        FileNotFoundError: if it can't be downloaded.
    """
    url = urlparse(checkpoint)
    if url.scheme not in ('http', 'https'):
        return Path(checkpoint)
    cached = Path(torch.hub.get_dir(), 'checkpoints', Path(url.path).name)
    try:
        CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')  # in one process first
    except OSError as error:
        raise FileNotFoundError(f'it cannot be downloaded ({error}); put the file at {cached}') from None
    return cached


def check_pair(student: BaseDetector, teacher: BaseDetector, classes: Any) -> None:
    """Check that two detectors see the same pixels, and look for the same objects at the same positions.

    Args:
        student: the model of the run.
        teacher: the model that it learns from; `dataset_meta` has its classes, if its checkpoint knows them.
        classes: names of the training dataset's classes, or None.

    Raises:
        ValueError: if they differ; the message names the setting and both values.
    """
    ours, theirs = settings(student), settings(teacher)
    known = teacher.dataset_meta.get('classes')
    if classes and known:
        ours['classes'], theirs['classes'] = list(classes), list(known)
    for name, value in ours.items():
        if theirs[name] != value:
            raise ValueError(f"the teacher's {name} must be {value}, as the student's, got {theirs[name]}")


def settings(model: BaseDetector) -> dict[str, Any]:
    """Return the settings that a teacher must share with its student, by their names in a config."""
    preprocessor = model.data_preprocessor
    normalisation = {
        f'data_preprocessor.{name}': getattr(preprocessor, name, torch.empty(0)).flatten().tolist()
        for name in ('mean', 'std')
    }
    head = model.bbox_head
    return {
        **normalisation,
        'data_preprocessor.bgr_to_rgb': bool(getattr(preprocessor, '_channel_conversion', False)),
        'bbox_head.anchor_generator.strides': head.prior_generator.strides,
        'bbox_head.num_classes': head.num_classes,
    }


def add_parameters(optimizer: Optimizer, module: nn.Module) -> None:
    """Let an optimiser train a module's parameters like the model's convolutions, in the group of the largest decay.

    They don't get a group of their own, because the learning-rate schedules know only those that were there first.
    """
    group = max(optimizer.param_groups, key=lambda group: (group.get('weight_decay', 0), group['lr']))
    group['params'].extend(module.parameters())


def remove_parameters(optimizer: Optimizer, module: nn.Module) -> None:
    """Let an optimiser forget a module's parameters and their state."""
    removed = set(module.parameters())
    for group in optimizer.param_groups:
        group['params'] = [parameter for parameter in group['params'] if parameter not in removed]
    for parameter in removed:
        optimizer.state.pop(parameter, None)
