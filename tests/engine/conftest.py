"""A toy run for the hooks: ten generated images, a model of a few weights, and mmengine's Runner."""

import json
import multiprocessing
import os
import runpy
import socket
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import BaseLoop, Runner
from torch import nn

from rtmdet_plugin.engine.hooks.pipeline_switch import restart_workers

NUM_IMAGES = 10
CLASSES = ('disc', 'square')


def pipeline(side: int) -> list[dict]:
    """Return a pipeline that loads and packs images at a side length by which the pipeline can be recognised."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(side, side), keep_ratio=False),
        dict(type='PackDetInputs'),
    ]


@pytest.fixture(scope='session')
def pictures(tmp_path_factory) -> Path:
    """Make a folder with `img/` and a COCO file `boxes.json` of two classes."""
    root = tmp_path_factory.mktemp('pictures')
    (root / 'img').mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(NUM_IMAGES):
        cv2.imwrite(str(root / 'img' / f'{i}.png'), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        images.append(dict(id=i, file_name=f'{i}.png', width=64, height=64))
        box = dict(bbox=[8, 8, 40, 40], area=1600, iscrowd=0)
        annotations.append(dict(id=i + 1, image_id=i, category_id=1 + i % 2, **box))
    categories = [dict(id=1, name=CLASSES[0]), dict(id=2, name=CLASSES[1])]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'boxes.json').write_text(json.dumps(content))
    return root


class ToyDetector(BaseModel):
    """One convolution, one BN, and a 'head' with a number of classes."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.bn = nn.BatchNorm2d(2)
        self.bbox_head = nn.Module()
        self.bbox_head.num_classes = num_classes

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.bn(self.conv(torch.stack(inputs).float() / 255))
        return dict(loss=(out - 1).square().mean()) if mode == 'loss' else [out.mean()]


class Rising(BaseMetric):
    """A metric that improves with each evaluation."""

    asked = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        self.asked += 1
        return dict(AP=self.asked / 100)


class Recorder(Hook):
    """Records what the run did."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []  # (epoch, side length of the images), each once
        self.validated: list[int] = []
        self.lr: list[float] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.lr.append(runner.optim_wrapper.param_groups[0]['lr'])
        for image in data_batch['inputs']:
            entry = (runner.epoch, image.shape[-1])
            if entry not in self.seen:
                self.seen.append(entry)

    def after_val_epoch(self, runner, metrics=None):
        self.validated.append(runner.epoch)


@pytest.fixture
def coco(pictures):
    """Make a dataset config for the images."""

    def make(**kwargs) -> dict:
        return dict(
            dict(
                type='CocoDataset',
                data_root=str(pictures),
                ann_file='boxes.json',
                data_prefix=dict(img='img/'),
                metainfo=dict(classes=CLASSES),
                pipeline=pipeline(64),
            ),
            **kwargs,
        )

    return make


@pytest.fixture
def make_runner(tmp_path, coco):
    """Make a Runner with the toy model; `runner.record` is its Recorder, `runner.log()` returns its log so far."""
    runners = []

    def make(
        *,
        max_epochs: int = 4,
        model: nn.Module | None = None,
        dataset: dict | None = None,
        val_dataset: dict | None = None,
        workers: int = 0,
        loader: dict | None = None,
        train_cfg: dict | None = None,
        hooks: dict | None = None,
        optim_wrapper: dict | None = None,
        **kwargs,
    ) -> Runner:
        shared = dict(num_workers=workers, persistent_workers=workers > 0)
        sampler = dict(type='DefaultSampler', shuffle=False)
        if val_dataset is not None:
            val_loader = dict(batch_size=5, sampler=sampler, dataset=val_dataset, num_workers=0)
            kwargs.update(val_dataloader=val_loader, val_cfg=dict(type='ValLoop'))
            kwargs.update(val_evaluator=Evaluator(metrics=[Rising()]))
        recorder = Recorder()
        runner = Runner(
            model=model or ToyDetector(),
            work_dir=str(tmp_path / 'work'),
            train_dataloader=dict(
                dict(batch_size=5, sampler=sampler, dataset=dataset or coco(), **shared), **(loader or {})
            ),
            train_cfg=dict(dict(type='EpochBasedTrainLoop', max_epochs=max_epochs), **(train_cfg or {})),
            optim_wrapper=optim_wrapper or dict(optimizer=dict(type='SGD', lr=0.01)),
            default_hooks=dict(dict(checkpoint=None), **ConfigDict(hooks or {})),
            custom_hooks=[recorder],
            default_scope='mmdet',
            experiment_name=uuid.uuid4().hex,
            randomness=dict(seed=0),
            **kwargs,
        )
        runners.append(runner)
        runner.record = recorder
        runner.log = lambda: ''.join(path.read_text() for path in Path(runner.log_dir).glob('*.log'))
        return runner

    yield make
    for runner in runners:
        # The garbage collector would wait 5 s for each persistent worker.
        if isinstance(runner._train_loop, BaseLoop):
            restart_workers(runner._train_loop.dataloader)


@pytest.fixture
def run_two_ranks() -> Callable:
    """A function that runs a script as two ranks, in forks of this process: a new one imports for seconds.

    `test_end_to_end.py` starts ranks as a user does, with `--launcher pytorch`.
    """

    def start(rank: int, port: int, script: Path, arguments: list[str]) -> None:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2')
        os.environ.update(MASTER_ADDR='localhost', MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES='-1')
        sys.argv = [str(script), *arguments]
        runpy.run_path(str(script), run_name='__main__')

    def run(script: Path, *arguments: object) -> None:
        with socket.create_server(('localhost', 0)) as server:
            port = server.getsockname()[1]
        context = multiprocessing.get_context('fork')
        ranks = [context.Process(target=start, args=(k, port, script, [*map(str, arguments)])) for k in (0, 1)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(120)
            rank.kill()
        assert [rank.exitcode for rank in ranks] == [0, 0]

    return run
