"""Measure mmyolo's assigner next to ours, and training steps of its RTMDet-tiny with and without our parts.

    OMP_NUM_THREADS=1 python benchmarks/mmyolo_step.py

640 px, 80 classes, 100 objects in an image. The assigners get the same random predictions; a step is preprocessing,
forward, assignment, loss, backward, optimiser and averaged weights. mmyolo (GPL) is only a reference: without it
(`mmyolo-requirements.txt`) nothing is measured. Writes
benchmarks/results/mmyolo_{assigner,step}_<device>_<machine>.json.
"""

import copy
import importlib.util
from pathlib import Path

import torch
from harness import compare, costs, milliseconds, peak_memory
from loss import make_batch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from results import DEVICE, device_name, report

import rtmdet_plugin  # noqa: F401  lets mmyolo be imported

OBJECTS, IMAGE = 100, 640
SWITCHES = dict(class_cost='own', dynamic_k='all')
OURS = {
    'backbone.type': 'mmdet.RTMCSPNeXt',
    'neck.type': 'mmdet.RTMCSPNeXtPAFPN',
    'bbox_head.loss_cls.type': 'mmdet.RTMQualityFocalLoss',
    'bbox_head.loss_bbox.type': 'mmdet.RTMGIoULoss',
    'train_cfg.assigner.type': 'mmdet.RTMDynamicSoftLabelAssigner',
    **{f'train_cfg.assigner.{key}': value for key, value in SWITCHES.items()},
}
HEAD = dict(type='mmdet.RTMSepBNHead', num_classes=80, in_channels=96, feat_channels=96)
VARIANTS = {
    'mmyolo': ({}, None, 'ExpMomentumEMA'),
    'with our assigner': ({key: value for key, value in OURS.items() if 'assigner' in key}, None, 'ExpMomentumEMA'),
    'with all of our parts': (OURS, None, 'mmdet.RTMExpMomentumEMA'),
    'with our head as well': (OURS, HEAD, 'mmdet.RTMExpMomentumEMA'),
}
"""Name: changes of the model, head, averaged weights."""


def targets(batch: int) -> torch.Tensor:
    """Return the objects of `make_batch` as mmyolo's rows: image, label, x1, y1, x2, y2."""
    objects = make_batch(batch, OBJECTS)[2]
    rows = [torch.cat((torch.full((OBJECTS, 1), i), o.labels[:, None], o.bboxes), 1) for i, o in enumerate(objects)]
    return torch.cat(rows)


def assigners(batch: int) -> dict:
    """Return a function that assigns one batch, for mmyolo's assigner and ours."""
    logits, distances, objects, _ = make_batch(batch, OBJECTS)
    flat = [torch.cat([x.detach().flatten(2).transpose(1, 2) for x in maps], 1) for maps in (logits, distances)]
    generator = TASK_UTILS.build(dict(type='mmdet.MlvlPointGenerator', offset=0, strides=[8, 16, 32]))
    priors = torch.cat(generator.grid_priors([x.shape[2:] for x in logits], device=DEVICE, with_stride=True))
    coder = TASK_UTILS.build(dict(type='mmdet.DistancePointBBoxCoder'))
    boxes = coder.decode(priors[:, :2].expand(batch, -1, 2), flat[1])
    labels = torch.stack([o.labels[:, None].float() for o in objects])
    case = (boxes, flat[0], priors, labels, torch.stack([o.bboxes for o in objects]), torch.ones_like(labels))
    kinds = {
        'mmyolo': dict(type='mmyolo.BatchDynamicSoftLabelAssigner', num_classes=80, topk=13),
        "ours, as mmyolo's": dict(type='mmdet.RTMDynamicSoftLabelAssigner', **SWITCHES),
        "ours, as mmdet's": dict(type='mmdet.RTMDynamicSoftLabelAssigner'),
    }
    built = {name: TASK_UTILS.build(kind) for name, kind in kinds.items()}
    return {name: lambda assigner=assigner: assigner(*case) for name, assigner in built.items()}


def trainer(config: Config, batch: int, changes: dict, head: dict | None, ema: str):
    """Return a function that takes one training step."""
    torch.manual_seed(0)
    cfg = Config(dict(model=copy.deepcopy(config.model)))
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    cfg.model.backbone.init_cfg = None
    if head:
        cfg.model.bbox_head = head
    model = MODELS.build(cfg.model).to(DEVICE).train()
    model.init_weights()
    average = MODELS.build(dict(type=ema, model=model, momentum=0.0002, update_buffers=True))
    optim_wrapper = build_optim_wrapper(model, copy.deepcopy(config.optim_wrapper))
    images = torch.randint(0, 256, (batch, 3, IMAGE, IMAGE), dtype=torch.uint8)
    rows = targets(batch)

    def step() -> None:
        model.train_step(dict(inputs=images, data_samples=dict(bboxes_labels=rows)), optim_wrapper)
        average.update_parameters(model)

    return step


def measure(name: str, cases: dict, repeats: int) -> list[dict]:
    """Measure candidates by batch size; return and write the rows."""
    rows = []
    for batch, candidates in cases.items():
        taken = costs(candidates, repeats)
        for kind, measured in taken.items():
            row = dict(batch=batch, what=kind, **milliseconds(measured), MB=peak_memory(candidates[kind]))
            ratio = compare(*([cost.wall for cost in side] for side in (taken['mmyolo'], measured)))
            low, high = ratio['ratio_range']
            rows.append(row | {'times faster': ratio['ratio'], 'low': low, 'high': high})
            print(rows[-1], flush=True)
    report(name, rows)
    return rows


def main() -> None:
    """Measure, print and write."""
    if importlib.util.find_spec('mmyolo') is None:
        print('mmyolo is not installed: nothing is measured')
        return
    import mmyolo
    from mmyolo.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    init_default_scope('mmyolo')
    MMLogger.get_instance('benchmark').setLevel('ERROR')
    measure('mmyolo_assigner', {batch: assigners(batch) for batch in (1, 4)}, repeats=7)
    folder = Path(mmyolo.__file__).parent / '.mim' / 'configs' / 'rtmdet'
    config = Config.fromfile(folder / 'rtmdet_tiny_syncbn_fast_8xb32-300e_coco.py')
    batch = 32 if DEVICE == 'cuda' else 4
    steps = {name: trainer(config, batch, *variant) for name, variant in VARIANTS.items()}
    measure('mmyolo_step', {batch: steps}, repeats=3)


if __name__ == '__main__':
    print(device_name())
    main()
