"""Measure assignment and loss, ours next to mmdet's and mmyolo's: time and peak memory by the number of objects.

    python benchmarks/loss.py [--busy-cores 0 1] [--batches 1 4 16] [--objects 10 100]

RTMDet-tiny's head at 640 px, 80 classes; from the head's outputs to the gradients on them. mmyolo (GPL) is only a
reference: it is measured if it is installed (`mmyolo-requirements.txt`). Next to busy cores, ours has the number of
threads that `RTMCPUThreadsHook` chooses, and the references have PyTorch's. Writes
benchmarks/results/loss_<device>_<machine>.json and a plot next to it. References are skipped ('not measured') if they
would take minutes or all of the memory. On a GPU, the rows also say whether our loss waits for the device.
"""

import traceback
from functools import partial
from pathlib import Path

import matplotlib
import torch
from harness import arguments, busy_cores, costs, in_threads, milliseconds, peak_memory
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from results import DEVICE, device_name, report, result_file
from torch import Tensor

import rtmdet_plugin  # noqa: F401  registers the head
from rtmdet_runtime.cpu_cores import measure_cores

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

SIZE, NUM_CLASSES, STRIDES = 640, 80, (8, 16, 32)
BATCHES = (1, 4, 16)
NAMES = ('mmdet', 'mmyolo', 'ours')
OBJECTS = (0, 1, 10, 50, 100, 300, 1000)
# Largest numbers of objects for the references, per image and per batch: mmdet would need 17 GB for an image with
# 1,000, and takes a minute for a batch with 1,200 on two CPU cores.
LIMITS = {'mmdet': (300, 1200), 'mmyolo': (1000, 4800), 'ours': (10**9, 10**9)}

COMMON = dict(
    num_classes=NUM_CLASSES,
    in_channels=96,
    feat_channels=96,
    anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=list(STRIDES)),
    bbox_coder=dict(type='DistancePointBBoxCoder'),
)
MMDET_LOSSES = dict(
    loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
    loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
)


def heads() -> dict[str, torch.nn.Module]:
    """Build the heads to compare; mmyolo's if it is installed."""
    init_default_scope('mmdet')
    train_cfg = dict(assigner=dict(type='RTMDynamicSoftLabelAssigner'))
    found = {'ours': MODELS.build(ConfigDict(type='RTMSepBNHead', train_cfg=train_cfg, **COMMON))}
    train_cfg = dict(assigner=dict(type='DynamicSoftLabelAssigner', topk=13), allowed_border=-1, pos_weight=-1)
    mmdet = dict(type='RTMDetSepBNHead', with_objectness=False, train_cfg=train_cfg, **COMMON, **MMDET_LOSSES)
    found['mmdet'] = MODELS.build(ConfigDict(mmdet))
    try:
        from mmyolo.models.dense_heads import RTMDetHead
        from mmyolo.utils import register_all_modules
    except ImportError:
        return found
    register_all_modules(init_default_scope=False)
    module = dict(type='RTMDetSepBNHeadModule', num_classes=NUM_CLASSES, in_channels=96, feat_channels=96)
    assigner = dict(type='BatchDynamicSoftLabelAssigner', num_classes=NUM_CLASSES, topk=13)
    assigner['iou_calculator'] = dict(type='mmdet.BboxOverlaps2D')
    losses = {name: {**cfg, 'type': f'mmdet.{cfg["type"]}'} for name, cfg in MMDET_LOSSES.items()}
    init_default_scope('mmyolo')
    found['mmyolo'] = RTMDetHead(
        head_module=ConfigDict(module),
        prior_generator=dict(type='mmdet.MlvlPointGenerator', offset=0, strides=list(STRIDES)),
        train_cfg=ConfigDict(assigner=assigner, allowed_border=-1, pos_weight=-1),
        **losses,
    )
    init_default_scope('mmdet')
    return found


def make_batch(batch: int, num_objects: int) -> tuple[list[Tensor], list[Tensor], list[InstanceData], list[dict]]:
    """Make outputs of a head, and objects of 20 to 140 px."""
    generator = torch.Generator().manual_seed(0)
    sides = [SIZE // stride for stride in STRIDES]
    logits = [torch.randn(batch, NUM_CLASSES, n, n, generator=generator) - 2 for n in sides]
    distances = [torch.rand(batch, 4, n, n, generator=generator) * 4 * s for n, s in zip(sides, STRIDES, strict=True)]
    objects = []
    for _ in range(batch):
        corner = torch.rand(num_objects, 2, generator=generator) * (SIZE - 40)
        sizes = 20 + torch.rand(num_objects, 2, generator=generator) * 120
        labels = torch.randint(0, NUM_CLASSES, (num_objects,), generator=generator)
        boxes = torch.cat((corner, (corner + sizes).clamp(max=SIZE)), dim=1)
        objects.append(InstanceData(bboxes=boxes, labels=labels).to(DEVICE))
    metas = [dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))] * batch
    to_leaf = lambda maps: [m.to(DEVICE).requires_grad_() for m in maps]  # noqa: E731
    return to_leaf(logits), to_leaf(distances), objects, metas


def is_measured(name: str, batch: int, num_objects: int) -> bool:
    """Return whether a head is measured with so many objects; mmyolo's fails if there are none."""
    most_an_image, most_a_batch = LIMITS[name]
    if name == 'mmyolo' and num_objects == 0:
        return False
    return num_objects <= most_an_image and batch * num_objects <= most_a_batch


def step(name: str, head: torch.nn.Module, logits, distances, objects, metas) -> float:
    """Compute loss and gradients once; return the loss."""
    if name == 'mmyolo':  # expects distances in cells, and the objects of a batch in one tensor
        index = torch.cat([torch.full((len(o), 1), float(i), device=DEVICE) for i, o in enumerate(objects)])
        rows = torch.cat([torch.cat((o.labels[:, None].float(), o.bboxes), dim=1) for o in objects])
        objects = torch.cat((index, rows), dim=1)
        distances = [d / s for d, s in zip(distances, STRIDES, strict=True)]
    losses = head.loss_by_feat(logits, distances, objects, metas)
    total = sum(sum(value) if isinstance(value, list | tuple) else value for value in losses.values())
    total.backward()
    return total


def synchronisation(name: str, head: torch.nn.Module, inputs: tuple) -> str:
    """Return the line of a loss that makes the host wait for the GPU; 'none' if there isn't one."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        step(name, head, *inputs)
    except RuntimeError as error:
        if 'synchroniz' not in str(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        return f'{Path(frames[-1].filename).name}:{frames[-1].lineno}'
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return 'none'


def measure(found: dict[str, torch.nn.Module], batch: int, num_objects: int, busy: list[int]) -> list[dict]:
    """Return a row for each condition."""
    inputs = make_batch(batch, num_objects)
    candidates = {
        name: partial(step, name, found[name], *inputs)
        for name in NAMES
        if name in found and is_measured(name, batch, num_objects)
    }
    rows = []
    memory = {name: peak_memory(candidate) for name, candidate in candidates.items()}
    waits = {'waits for the GPU': synchronisation('ours', found['ours'], inputs)} if DEVICE == 'cuda' else {}
    for count in busy:
        with busy_cores(count) as condition:
            threads = min(torch.get_num_threads(), measure_cores().free)
            steps = dict(candidates, ours=partial(in_threads, threads, candidates['ours']))
            taken = costs(steps, repeats=3 if batch * num_objects > 200 else 7)
        row = dict(condition=condition, batch=batch, objects=num_objects, threads=threads)
        for name in NAMES:
            row |= milliseconds(taken[name], f'{name} ') if name in taken else {f'{name} ms': 'not measured'}
            row[f'{name} MB'] = memory.get(name, 'not measured')
        for title, part in (('times faster', 'ms'), ('times faster, CPU time', 'CPU ms')):
            row[title] = row[f'mmdet {part}'] / row[f'ours {part}'] if 'mmdet' in taken else 'not measured'
        row['times less MB'] = memory['mmdet'] / memory['ours'] if 'mmdet' in taken else 'not measured'
        rows.append(row | waits)
    return rows


def main() -> None:
    """Measure, print, write and plot."""
    parser = arguments(__doc__)
    parser.add_argument('--batches', type=int, nargs='+', default=BATCHES, help='numbers of images')
    parser.add_argument('--objects', type=int, nargs='+', default=OBJECTS, help='numbers of objects per image')
    args = parser.parse_args()
    found, rows = heads(), []
    for batch in [1] if args.quick else args.batches:
        for num_objects in [10] if args.quick else args.objects:
            rows += measure(found, batch, num_objects, args.busy_cores)
            print(rows[-1], flush=True)
        columns = [name for name in rows[0] if not name.endswith((' min', ' max'))]
        report('loss', rows, columns, not args.quick)  # after each batch size, so that a time limit loses little
    if not args.quick:
        plot([row for row in rows if row['condition'] == rows[0]['condition']])


def plot(rows: list[dict]) -> None:
    """Plot time and memory over the number of objects, at batch 4."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    for axis, unit in zip(axes, ('ms', 'MB'), strict=True):
        for name in NAMES:
            points = [(r['objects'], r[f'{name} {unit}']) for r in rows if r['batch'] == 4]
            points = [(x, y) for x, y in points if x and not isinstance(y, str)]
            if points:
                axis.loglog(*zip(*points, strict=True), marker='o', label=name)
        axis.set(xlabel='objects in an image', ylabel=unit, title=f'loss and gradients, batch 4: {unit}')
        axis.grid(alpha=0.3, which='both')
        axis.legend()
    figure.suptitle(device_name())
    figure.savefig(result_file('loss', '.png'), dpi=110)


if __name__ == '__main__':
    main()
