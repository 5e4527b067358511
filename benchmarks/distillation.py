"""Measure what a teacher costs: time and memory of a training step with it and without.

    python benchmarks/distillation.py [STUDENT TEACHER]

640 px, 20 objects per image; batch 4 on a CPU, 32 on a GPU, random weights. Steps with and without the teacher run in
turns. Writes benchmarks/results/distillation_<device>_<machine>.json.
"""

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from harness import costs, milliseconds, peak_memory
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from results import device_name, report
from train_step import BATCH, Trainer

from rtmdet_plugin.engine.hooks import RTMDistillationHook

PAIRS = (('tiny', 's'), ('s', 'm'))


def distilled(student: Config, teacher: str, folder: Path) -> Trainer:
    """Return a student with a teacher of random weights."""
    config, weights = f'configs/rtmdet_{teacher}.py', folder / f'{teacher}.pth'
    model = Config.fromfile(config).model
    model.backbone.init_cfg = None
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), weights)
    trainer = Trainer(student)
    run = SimpleNamespace(
        model=trainer.model,
        optim_wrapper=trainer.optim_wrapper,
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo={})),
        logger=MMLogger.get_instance('benchmark'),
        **dict(epoch=0, iter=0, max_epochs=300, hooks=[], distributed=False),
    )
    trainer.hook = RTMDistillationHook(config, str(weights))
    trainer.hook.before_train(run)
    return trainer


def main() -> None:
    """Measure, print and write."""
    init_default_scope('mmdet')
    MMLogger.get_instance('benchmark').setLevel('ERROR')
    rows = []
    for student, teacher in [tuple(sys.argv[1:])] if sys.argv[1:] else PAIRS:
        config = Config.fromfile(f'configs/rtmdet_{student}.py')
        with tempfile.TemporaryDirectory() as folder:
            trainers = {'none': Trainer(config), teacher: distilled(config, teacher, Path(folder))}
        taken = costs({name: trainer.step for name, trainer in trainers.items()}, repeats=3)
        for name, trainer in trainers.items():
            row = dict(student=student, teacher=name, batch=BATCH, **milliseconds(taken[name]))
            row['times without'] = row['ms'] / milliseconds(taken['none'])['ms']
            row['peak MB of a step'] = peak_memory(trainer.step)
            held = 0 if name == 'none' else sum(v.nbytes for v in trainer.hook._teacher.state_dict().values())
            row['teacher MB'] = held / 2**20
            rows.append(row)
            print(row, flush=True)
    report('distillation', rows)


if __name__ == '__main__':
    print(device_name())
    main()
