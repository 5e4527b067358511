"""Measure complete training steps next to mmdet's: forward, assignment, loss, backward, optimiser, averaged weights.

    python benchmarks/train_step.py [SIZE ...] [--busy-cores 0 1] [--compile]

640 px, 80 classes, 20 objects per image; tiny and s on a CPU, tiny to x on a GPU. First mmdet's models, loss, optimiser
groups and EMA against ours, in turns, with page faults and peak memory; then each part of a step. Writes
benchmarks/results/train_step{,_parts}_<device>_<machine>.json after each size. `--compile` measures our fastest step
with and without torch.compile instead, and writes train_step_compiled.
"""

import copy
from argparse import Namespace
from functools import partial
from statistics import median

import torch
from harness import Cost, Parts, arguments, busy_cores, costs, milliseconds, peak_memory, peak_resident
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from results import DEVICE, device_name, report

import rtmdet_plugin  # noqa: F401  registers the models
from rtmdet_plugin.inference.predictor import cpu_has_bfloat16

CUDA = DEVICE == 'cuda'
SIZES = ('tiny', 's', 'm', 'l', 'x') if CUDA else ('tiny', 's')
BATCH, IMAGE, NUM_OBJECTS = (32 if CUDA else 4), 640, 20
X_BATCH = 16
"""Batch of x on a GPU: mmdet's step in float32 needs 60 GB for 32 images."""
HALF = torch.float16 if CUDA else torch.bfloat16


def use_plain_norms(config: Config) -> None:
    """Replace SyncBN, which needs GPUs, in place."""
    for part in (config.model.backbone, config.model.neck, config.model.bbox_head):
        part.norm_cfg = dict(type='BN', momentum=0.1, eps=1e-5)


class Trainer:
    """A model with everything that a runner needs for a training step."""

    def __init__(
        self,
        config: Config,
        *,
        batch: int = BATCH,
        image: int = IMAGE,
        channels_last: bool = False,
        dtype: torch.dtype | None = None,
        compile: bool = False,
    ):
        torch.manual_seed(0)
        cfg = copy.deepcopy(config)
        cfg.model.backbone.init_cfg = None
        cfg.model.use_syncbn = False
        use_plain_norms(cfg)
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
        if compile:  # mmengine's `compile=True` compiles train_step, and Dynamo fails in its optimiser
            for part in (self.model.backbone, self.model.neck, self.model.bbox_head):
                part.compile()
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (batch, 3, image, image), dtype=torch.uint8, generator=generator)
        samples = []
        for _ in range(batch):
            corner = torch.rand(NUM_OBJECTS, 2, generator=generator) * (image - 40)
            sides = 20 + torch.rand(NUM_OBJECTS, 2, generator=generator) * 200
            sample = DetDataSample(
                metainfo=dict(img_shape=(image, image), ori_shape=(image, image), scale_factor=(1, 1))
            )
            sample.gt_instances = InstanceData(
                bboxes=torch.cat((corner, (corner + sides).clamp(max=image)), dim=1),
                labels=torch.randint(0, 80, (NUM_OBJECTS,), generator=generator),
            )
            samples.append(sample)
        self.data = dict(inputs=list(images), data_samples=samples)

    def step(self) -> None:
        """Run one training step."""
        self.model.train_step(copy.deepcopy(self.data), self.optim_wrapper)
        self.ema.update_parameters(self.model)

    def parts(self) -> dict[str, Cost]:
        """Measure each part of one step."""
        parts = Parts()
        with self.optim_wrapper.optim_context(self.model):
            with parts.part('preprocessing'):
                data = self.model.data_preprocessor(copy.deepcopy(self.data), training=True)
            with parts.part('forward'):
                outputs = self.model.bbox_head(self.model.extract_feat(data['inputs']))
            with parts.part('loss'):
                gt_instances = [sample.gt_instances for sample in data['data_samples']]
                metas = [sample.metainfo for sample in data['data_samples']]
                losses, _ = self.model.parse_losses(self.model.bbox_head.loss_by_feat(*outputs, gt_instances, metas))
        with parts.part('backward'):
            self.optim_wrapper.backward(losses)
        with parts.part('optimiser'):
            self.optim_wrapper.step()
            self.optim_wrapper.zero_grad()
        with parts.part('EMA'):
            self.ema.update_parameters(self.model)
        return parts


def variants(size: str, compiled: bool) -> dict[tuple[str, str], partial[Trainer]]:
    """Return what is compared: whose model, and how it is trained."""
    ours = Config.fromfile(f'configs/rtmdet_{size}.py')
    half = CUDA or cpu_has_bfloat16()  # a CPU without it emulates it, which takes minutes
    if compiled:
        how = f'{"AMP" if half else "float32"}, channels last'
        fastest = partial(Trainer, ours, channels_last=True, dtype=HALF if half else None)
        return {('ours', how): fastest, ('ours', f'{how}, compiled'): partial(fastest, compile=True)}
    theirs = get_config(f'mmdet::rtmdet/rtmdet_{size}_8xb32-300e_coco.py')
    found = {
        ('mmdet', 'float32'): partial(Trainer, theirs),
        ('mmdet', 'AMP'): partial(Trainer, theirs, dtype=HALF),
        ('ours', 'float32'): partial(Trainer, ours),
        ('ours', 'float32, channels last'): partial(Trainer, ours, channels_last=True),
        ('ours', 'AMP, channels last'): partial(Trainer, ours, channels_last=True, dtype=HALF),
    }
    return {(whose, how): make for (whose, how), make in found.items() if half or 'AMP' not in how}


def measure(trainers: dict[tuple[str, str], Trainer], repeats: int, batch: int) -> list[dict]:
    """Measure the time of a step of each trainer, compared with the first ones in the same precision."""
    rows = []
    taken = costs({key: trainer.step for key, trainer in trainers.items()}, repeats)
    for (whose, how), measured in taken.items():
        row = dict(model=whose, how=how, **milliseconds(measured))
        row['images/s'] = 1e3 * batch / row['ms']
        for base in [key for key in taken if key[0] == 'mmdet'] or list(taken)[:1]:
            row[f'times {", ".join(base)}'] = milliseconds(taken[base])['ms'] / row['ms']
        row['page faults'] = median(cost.faults for cost in measured)
        rows.append(row)
    return rows


def parts_row(trainer: Trainer, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each part of a step."""
    runs = [trainer.parts() for _ in range(repeats)]
    return {f'{part} ms': 1e3 * median(run[part].wall for run in runs) for part in runs[0]}


def measure_size(size: str, batch: int, image: int, repeats: int, args: Namespace) -> tuple[list[dict], list[dict]]:
    """Return the rows of complete steps and of their parts, in each condition; halve a batch that a GPU can't hold."""
    rows, parts = [], []
    try:
        made = {key: make(batch=batch, image=image) for key, make in variants(size, args.compile).items()}
        for count in args.busy_cores:
            with busy_cores(count) as condition:
                start = dict(condition=condition, size=size, batch=batch)
                rows += [start | row for row in measure(made, repeats, batch)]
                for key, trainer in {} if args.compile else made.items():
                    parts.append(start | dict(model=key[0], how=key[1]) | parts_row(trainer, repeats))
        memory = {
            key: {'peak MB': peak_memory(trainer.step), 'peak RSS MB': peak_resident(trainer.step)}
            for key, trainer in made.items()
        }
        return [row | memory[row['model'], row['how']] for row in rows], parts
    except torch.OutOfMemoryError:
        if batch == 1:
            raise
    made = None  # frees the memory
    torch.cuda.empty_cache()
    return measure_size(size, batch // 2, image, repeats, args)


def main() -> None:
    """Measure, print and write."""
    parser = arguments(__doc__)
    parser.add_argument('sizes', nargs='*', metavar='SIZE', help=f'sizes of the model (default: {" ".join(SIZES)})')
    parser.add_argument('--compile', action='store_true', help='measure our fastest step, eager and compiled')
    args = parser.parse_args()
    init_default_scope('mmdet')
    MMLogger.get_instance('benchmark').setLevel('ERROR')
    repeats = 1 if args.quick else 10 if CUDA else 3
    rows, parts = [], []
    for size in (args.sizes or SIZES)[: 1 if args.quick else None]:
        batch, image = (2, 64) if args.quick else (X_BATCH if CUDA and size == 'x' else BATCH, IMAGE)
        found = measure_size(size, batch, image, repeats, args)
        rows, parts = rows + found[0], parts + found[1]
        columns = [name for name in rows[0] if not name.endswith((' min', ' max'))]
        report('train_step_compiled' if args.compile else 'train_step', rows, columns, not args.quick)
        if parts:
            report('train_step_parts', parts, save=not args.quick)


if __name__ == '__main__':
    print(device_name())
    main()
