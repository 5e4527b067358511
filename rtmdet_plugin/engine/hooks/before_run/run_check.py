"""Log one report about settings, annotations and machine before the first step.

Common causes of failed trainings are a learning rate for another batch size, a stage 2 as long as the run, objects too
small for the scale, and a full disk. All of these can be found before the first step. The checks are in `run_findings`;
this module takes their inputs from the runner.
"""

import logging
import math
import os
import shutil
from collections.abc import Iterator, Sequence, Set
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim.scheduler import LinearParamScheduler
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, AdamW, Optimizer

from ....datasets.collate import rtm_collate
from ....datasets.tree import leaf_datasets
from ....transforms.sample_cache import SampleCache
from ....transforms.walk import walk_transforms
from ..cpu_threads import RTMCPUThreadsHook
from ..pipeline_switch import RTMPipelineSwitchHook
from ..unwrapped import unwrapped
from . import run_findings
from .box_statistics import box_statistics
from .free_memory import free_memory
from .run_findings import Finding


@HOOKS.register_module()
class RTMRunCheckHook(Hook):
    """Log the findings about a run, in the main process only. No finding stops a run."""

    # After the hooks that set up the run, so that the report is logged directly before the first step.
    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Run the checks and log their report."""
        if not is_main_process():
            return
        findings = []
        for name, check in CHECKS.items():
            try:
                findings += check(runner)
            except Exception as error:  # datasets or models of other kinds must not stop the run
                findings.append(Finding('note', name, f'not checked: {type(error).__name__}: {error}'))
        warned = any(finding.level == 'warning' for finding in findings)
        runner.logger.log(logging.WARNING if warned else logging.INFO, run_findings.format_report(findings))


def find_about_data(runner: Runner) -> Iterator[Finding]:
    """Check the classes and the boxes."""
    datasets = leaf_datasets(runner.train_dataloader.dataset)
    head = getattr(unwrapped(runner), 'bbox_head', None)
    names = datasets[0].metainfo.get('classes', ())
    scale = first_scale(datasets[0].pipeline.transforms) or (640, 640)
    boxes = box_statistics(datasets, scale, len(names))
    yield run_findings.check_classes(getattr(head, 'num_classes', None), names, boxes.counts)
    strides = getattr(getattr(head, 'prior_generator', None), 'strides', [(8, 8)])
    yield run_findings.check_small_objects(boxes.short_sides, min(min(stride) for stride in strides))
    yield run_findings.check_aspect_ratios(boxes.ratios)
    yield run_findings.check_box_format(boxes.boxes, boxes.sizes)


def find_about_learning_rate(runner: Runner) -> Iterator[Finding]:
    """Check the learning rate of AdamW; the recipe has no value for other optimisers."""
    optimizer = runner.optim_wrapper.optimizer
    if isinstance(optimizer, AdamW):
        # Read the optimiser's groups: those of the wrapper include the configured settings, which aren't scaled.
        rates = {group.get('initial_lr', group['lr']) for group in optimizer.param_groups}
        scaling = runner.auto_scale_lr or {}
        images = batch_size(runner) * get_world_size()
        factor = images / scaling['base_batch_size'] if 'base_batch_size' in scaling else None
        scaled = factor is not None and scaling.get('enable', False)
        base = base_rate(rates, optimizer.defaults['lr'] * (factor if scaled else 1))
        others = rates - {base}
        batch = images * runner.optim_wrapper._accumulative_counts
        # A resumed run may have started from either; the rule for training from scratch allows more.
        pretrained = runner._load_from is not None and not runner._resume
        yield run_findings.check_learning_rate(base, batch, pretrained, factor, scaled, others)


def find_about_batch_norm(runner: Runner) -> Iterator[Finding]:
    """Check the batch norms, if the model has any."""
    norms = [module for module in runner.model.modules() if isinstance(module, _BatchNorm)]
    if norms:
        synchronised = any(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
        yield run_findings.check_batch_norm(batch_size(runner), get_world_size(), synchronised)


def find_about_stages(runner: Runner) -> Iterator[Finding]:
    """Check the length of stage 2, if a hook switches to it."""
    for hook in runner.hooks:
        if isinstance(hook, RTMPipelineSwitchHook):
            yield run_findings.check_stages(runner.max_epochs, hook.num_last_epochs)


def find_about_warm_up(runner: Runner) -> Iterator[Finding]:
    """Check the length of the warm-up, if the first scheduler is linear."""
    schedulers = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    if schedulers and isinstance(schedulers[0], LinearParamScheduler):
        first = schedulers[0]
        length = (first.end - first.begin) * (len(runner.train_dataloader) if first.by_epoch else 1)
        yield run_findings.check_warm_up(length, runner.max_iters)


def find_about_memory(runner: Runner) -> Iterator[Finding]:
    """Check the memory for the workers' caches, and the shared memory for their batches."""
    loader = runner.train_dataloader
    processes = int(os.environ.get('LOCAL_WORLD_SIZE') or os.environ.get('SLURM_NTASKS_PER_NODE') or 1)
    workers = processes * max(1, loader.num_workers)
    datasets = leaf_datasets(loader.dataset)
    free = free_memory()
    if free is not None:
        steps = (step for dataset in datasets for step in walk_transforms(dataset.pipeline.transforms))
        caches = sum(cache_bytes(step) for step in steps)
        yield run_findings.check_memory(workers * caches, free, workers)
    width, height = first_scale(datasets[0].pipeline.transforms) or (640, 640)
    collate = getattr(loader.collate_fn, 'func', loader.collate_fn)  # mmengine wraps it in a partial
    # `rtm_collate` doesn't use the shared memory.
    if loader.num_workers and os.path.isdir('/dev/shm') and collate is not rtm_collate:
        waiting = workers * loader.prefetch_factor * batch_size(runner) * width * height * 3
        yield run_findings.check_shared_memory(waiting, shutil.disk_usage('/dev/shm').free)


def find_about_disk(runner: Runner) -> Iterator[Finding]:
    """Check the disk space, if checkpoints are written to a local folder."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and os.path.isdir(hook.out_dir):
            length = runner.max_epochs if hook.by_epoch else runner.max_iters
            regular = length // hook.interval if hook.interval > 0 else 0
            if hook.max_keep_ckpts > 0:  # the oldest is removed after the newest is written
                regular = min(regular, hook.max_keep_ckpts + 1)
            best = len(hook.key_indicators) if hook.save_best is not None else 0
            averaged = any(isinstance(other, EMAHook) for other in runner.hooks)
            size = checkpoint_bytes(runner.model, runner.optim_wrapper.optimizer, averaged)
            yield run_findings.check_disk(size, regular + best, shutil.disk_usage(hook.out_dir).free)


def find_about_threads(runner: Runner) -> Iterator[Finding]:
    """Report the number of CPU threads, if a hook has chosen it."""
    for hook in runner.hooks:
        if isinstance(hook, RTMCPUThreadsHook) and hook.reason:
            yield run_findings.ok('CPU threads', hook.reason)


def batch_size(runner: Runner) -> int:
    """Return the number of images in a batch of one process."""
    loader = runner.train_dataloader
    return loader.batch_size or loader.batch_sampler.batch_size


def base_rate(rates: Set[float], configured: float) -> float:
    """Return the rate of the groups without `lr_mult`, or the highest if there is none.

    There is none after a resume with other settings, for example.

    Args:
        rates: learning rates of all groups.
        configured: learning rate of the config, after any scaling.
    """
    return next((rate for rate in rates if math.isclose(rate, configured)), max(rates))


def first_scale(transforms: Sequence[Any]) -> tuple[int, int] | None:
    """Return the first (width, height) that a pipeline fits an image into, or None if no transform sets one."""
    for transform in walk_transforms(transforms):
        for name in ('img_scale', 'scale'):
            value = getattr(transform, name, None)
            if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(side, int) for side in value):
                return tuple(value)
    return None


def cache_bytes(transform: Any) -> int:
    """Return the bytes of a full cache of 8-bit images at its transform's scale; 0 for a transform without a cache."""
    cache, scale = getattr(transform, 'cache', None), first_scale([transform])
    if scale is None or not isinstance(cache, SampleCache):
        return 0
    return min((cache.max_size + 1) * scale[0] * scale[1] * 3, cache.max_bytes)


def checkpoint_bytes(model: nn.Module, optimizer: Optimizer, averaged: bool) -> int:
    """Estimate the bytes of a checkpoint: weights, averaged weights, and the optimiser's state of each parameter."""
    state = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    trained = sum(p.numel() * p.element_size() for group in optimizer.param_groups for p in group['params'])
    copies = 2 if isinstance(optimizer, Adam | AdamW) else int(optimizer.defaults.get('momentum', 0) > 0)
    return state * (2 if averaged else 1) + trained * copies


CHECKS = {
    'data': find_about_data,
    'learning rate': find_about_learning_rate,
    'batch norm': find_about_batch_norm,
    'stages': find_about_stages,
    'warm-up': find_about_warm_up,
    'memory': find_about_memory,
    'disk': find_about_disk,
    'CPU threads': find_about_threads,
}
"""Name of a check in the report: what to call."""
