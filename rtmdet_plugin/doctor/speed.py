"""Measure the data loader and the training step separately, to say which of them limits a training."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from rtmdet_runtime.cpu_cores import available_cores

from ..inference.device import device_type
from ..training.formats.labelled import Labelled
from .finding import Finding
from .training_config import fit_loader, training_config

STEPS = 3
"""Number of measured training steps, after one that isn't measured."""
SECONDS = 5.0
"""Time in which the loader is measured."""
RESERVE = 1.2
"""Ratio of loader to step from which the loader doesn't slow down a training."""


class Speed(NamedTuple):
    """Images per second of the two parts of a training, measured one after the other."""

    loader: float
    step: float
    workers: int
    batch: int

    def facts(self) -> dict[str, str]:
        """Return both as text, by name."""
        return {
            'data loader': f'{self.loader:.1f} images/s with {self.workers} workers',
            'training step': f'{self.step:.1f} images/s with a batch of {self.batch} on {device_type()}',
        }

    def finding(self) -> Finding:
        """Return which part limits a training."""
        if self.loader >= RESERVE * self.step:
            text = f'the training step is the limit: it takes {self.step:.1f} images/s, and the data loader gives'
            return Finding('speed', 'note', f'{text} {self.loader:.1f}')
        more = max(1, available_cores() - 1)
        advice = (
            f'use more workers (train_dataloader.num_workers={more})' if more > self.workers else 'store smaller images'
        )
        text = f'the data loader is the limit: it gives {self.loader:.1f} images/s, and the training step could take'
        return Finding('speed', 'warning', f'{text} {self.step:.1f}; {advice}')


def speed_of(data: Config | Labelled, model: str) -> Speed:
    """Measure the data loader and the training step of a training.

    Args:
        data: a config, or a dataset.
        model: name of the model, unless `data` is a config.

    Raises:
        RefusedError: if the dataset can't be trained on.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if isinstance(data, Config):
            return measure_speed(data)
        config = training_config(data, model, Path(folder))
        fit_loader(config, data)
        return measure_speed(config)


def measure_speed(config: Config) -> Speed:
    """Measure the data loader and the training step of a config, whose weights aren't loaded.

    Raises:
        RefusedError: if its dataset can't be trained on.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    images_per_second, batch = _measure_loader(config.train_dataloader)
    images = len(batch['data_samples'])
    step = images / _seconds_of_step(config, batch)
    return Speed(images_per_second, step, config.train_dataloader.get('num_workers', 0), images)


def _measure_loader(settings: dict[str, Any]) -> tuple[float, dict]:
    """Return the images per second of a data loader, and its last batch."""
    workers = settings.get('num_workers', 0)
    settings = dict(settings, persistent_workers=workers > 0, pin_memory=torch.cuda.is_available())
    loader = Runner.build_dataloader(settings, seed=0)
    batches = _endless(loader)
    # The first batches start the workers and fill the caches of mosaic and MixUp.
    for _ in range(2 * workers + 1):
        next(batches)
    start, images, seconds, batch = time.perf_counter(), 0, 0.0, {}
    while seconds < SECONDS:
        batch = next(batches)
        images += len(batch['data_samples'])
        seconds = time.perf_counter() - start
    return images / seconds, batch


def _endless(loader: Any) -> Iterator[dict]:
    while True:
        yield from loader


def _seconds_of_step(config: Config, batch: dict) -> float:
    """Return the median seconds of a training step."""
    settings = copy.deepcopy(config.model)
    settings.backbone.init_cfg = None
    model = revert_sync_batchnorm(MODELS.build(settings)).to(device_type()).train()
    if any(hook['type'] == 'RTMChannelsLastHook' for hook in config.get('custom_hooks') or ()):
        model.to(memory_format=torch.channels_last)
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    seconds = []
    for _ in range(STEPS + 1):
        data = copy.deepcopy(batch)
        start = time.perf_counter()
        model.train_step(data, optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
