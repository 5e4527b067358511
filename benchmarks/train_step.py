"""Measure complete training steps next to mmdet's: forward, assignment, loss, backward, optimiser, averaged weights.

    python benchmarks/train_step.py [SIZE ...]

640 px, 80 classes, 20 objects per image; batch 4 on a CPU (tiny and s), 32 on a GPU (s, m and l). First mmdet's models,
loss, optimiser groups and EMA against ours, in turns; then each part of a step. Writes
benchmarks/results/train_step{,_parts}_<device>.json.
"""

import copy
import statistics
import sys
import time
from contextlib import contextmanager
from functools import partial

import torch
from harness import alternate, device_name, peak_memory, synchronize, write
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import rtmdet_plugin  # noqa: F401  registers the models

CUDA = torch.cuda.is_available()
DEVICE = 'cuda' if CUDA else 'cpu'
SIZES = ('s', 'm', 'l') if CUDA else ('tiny', 's')
BATCH, IMAGE, NUM_OBJECTS = (32 if CUDA else 4), 640, 20


class Trainer:
    """A model with everything that a runner needs for a training step."""

    def __init__(
        self, config: Config, *, channels_last: bool = False, dtype: torch.dtype | None = None, compile: bool = False
    ):
        torch.manual_seed(0)
        cfg = copy.deepcopy(config)
        cfg.model.backbone.init_cfg = None
        cfg.model.use_syncbn = False
        for part in (cfg.model.backbone, cfg.model.neck, cfg.model.bbox_head):
            part.norm_cfg = dict(type='BN', momentum=0.1, eps=1e-5)
        self.model = MODELS.build(cfg.model).to(DEVICE).train()
        self.model.init_weights()
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        ema = next(
            hook for hook in (*cfg.get('custom_hooks', ()), *cfg.default_hooks.values()) if hook.type == 'EMAHook'
        )
        settings = {key: ema[key] for key in ('momentum', 'gamma', 'update_buffers') if key in ema}
        self.ema = MODELS.get(ema.ema_type)(self.model, **settings)
        optim_wrapper = dict(cfg.optim_wrapper)
        if dtype == torch.bfloat16:
            optim_wrapper.update(type='RTMBFloat16OptimWrapper')  # mmengine's doesn't support CPUs
        elif dtype is not None:
            optim_wrapper.update(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')
        self.optim_wrapper = build_optim_wrapper(self.model, optim_wrapper)
        if compile:
            self.model = torch.compile(self.model)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (BATCH, 3, IMAGE, IMAGE), dtype=torch.uint8, generator=generator)
        samples = []
        for _ in range(BATCH):
            corner = torch.rand(NUM_OBJECTS, 2, generator=generator) * (IMAGE - 40)
            sides = 20 + torch.rand(NUM_OBJECTS, 2, generator=generator) * 200
            sample = DetDataSample(
                metainfo=dict(img_shape=(IMAGE, IMAGE), ori_shape=(IMAGE, IMAGE), scale_factor=(1, 1))
            )
            sample.gt_instances = InstanceData(
                bboxes=torch.cat((corner, (corner + sides).clamp(max=IMAGE)), dim=1),
                labels=torch.randint(0, 80, (NUM_OBJECTS,), generator=generator),
            )
            samples.append(sample)
        self.data = dict(inputs=list(images), data_samples=samples)

    def step(self) -> None:
        """Run one training step."""
        self.model.train_step(copy.deepcopy(self.data), self.optim_wrapper)
        self.ema.update_parameters(self.model)

    def parts(self) -> dict[str, float]:
        """Measure the seconds of each part of one step."""
        seconds = {}

        @contextmanager
        def timed(part: str):
            synchronize()
            start = time.perf_counter()
            yield
            synchronize()
            seconds[part] = time.perf_counter() - start

        with self.optim_wrapper.optim_context(self.model):
            with timed('preprocessing'):
                data = self.model.data_preprocessor(copy.deepcopy(self.data), training=True)
            with timed('forward'):
                outputs = self.model.bbox_head(self.model.extract_feat(data['inputs']))
            with timed('loss'):
                gt_instances = [sample.gt_instances for sample in data['data_samples']]
                metas = [sample.metainfo for sample in data['data_samples']]
                losses, _ = self.model.parse_losses(self.model.bbox_head.loss_by_feat(*outputs, gt_instances, metas))
        with timed('backward'):
            self.optim_wrapper.backward(losses)
        with timed('optimiser'):
            self.optim_wrapper.step()
            self.optim_wrapper.zero_grad()
        with timed('EMA'):
            self.ema.update_parameters(self.model)
        return seconds


def main() -> None:
    """Measure, print and write."""
    init_default_scope('mmdet')
    MMLogger.get_instance('benchmark').setLevel('ERROR')
    half = torch.float16 if CUDA else torch.bfloat16
    rows, parts = [], []
    for size in sys.argv[1:] or SIZES:
        theirs = get_config(f'mmdet::rtmdet/rtmdet_{size}_8xb32-300e_coco.py')
        ours = Config.fromfile(f'configs/rtmdet_{size}.py')
        variants = {
            ('mmdet', 'float32'): partial(Trainer, theirs),
            ('mmdet', 'AMP'): partial(Trainer, theirs, dtype=half),
            ('ours', 'float32'): partial(Trainer, ours),
            ('ours', 'float32, channels last'): partial(Trainer, ours, channels_last=True),
            ('ours', 'AMP, channels last'): partial(Trainer, ours, channels_last=True, dtype=half),
        }
        if CUDA:
            fastest = partial(Trainer, ours, channels_last=True, dtype=half, compile=True)
            variants['ours', 'AMP, channels last, compiled'] = fastest
        trainers = {key: make() for key, make in variants.items()}
        seconds = alternate({key: trainer.step for key, trainer in trainers.items()}, repeats=10 if CUDA else 3)
        for (whose, how), taken in seconds.items():
            row = dict(size=size, batch=BATCH, model=whose, how=how, ms=1e3 * taken)
            row['images/s'] = BATCH / taken
            row['times mmdet, float32'] = seconds['mmdet', 'float32'] / taken
            row['times mmdet, AMP'] = seconds['mmdet', 'AMP'] / taken
            row['peak MB'] = peak_memory(trainers[whose, how].step)
            rows.append(row)
            if 'compiled' not in how:
                runs = [trainers[whose, how].parts() for _ in range(3)]
                medians = {f'{part} ms': 1e3 * statistics.median(run[part] for run in runs) for part in runs[0]}
                parts.append(dict(size=size, model=whose, how=how, **medians))
            print(row, flush=True)
    write('train_step', rows, list(rows[0]))
    write('train_step_parts', parts, list(parts[0]))


if __name__ == '__main__':
    print(device_name())
    main()
