"""Several processes: on CPUs through `--launcher pytorch` with gloo, on GPUs with SyncBN.

The run with two processes has everything in it that could part them: wrapped data sets, numbers of images that two
doesn't divide, a loss that is NaN in one of them.
"""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from rtmdet_plugin.engine.runner import RTMDistributedDataParallel

ROOT = Path(__file__).parents[3]

# Do the same as mmdet's train.py with `--launcher pytorch`, then write the state of each process.
TRAIN = """
import hashlib, json, math, os, sys
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.runner import Runner

def digest(state):
    return hashlib.sha256(b''.join(v.cpu().numpy().tobytes() for v in state.values())).hexdigest()

torch.set_num_threads(1)
config = Config.fromfile(sys.argv[1])
config.launcher = 'pytorch'
runner = Runner.from_cfg(config)
model, seen = runner.model.module, []
compute = model.loss

def loss(inputs, samples):
    seen.extend(sample.img_id for sample in samples)
    losses = compute(inputs, samples)
    if runner.rank == 1 and runner.iter == 1:
        losses['loss_cls'] = losses['loss_cls'] * math.nan
    return losses

model.loss = loss
runner.train()
averaged = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model
report = dict(
    backend=torch.distributed.get_backend(),
    world=runner.world_size,
    wrapper=type(runner.model).__name__,
    norms=sorted({type(m).__name__ for m in runner.model.modules() if 'Norm' in type(m).__name__}),
    steps=runner.iter,
    updates=runner.optim_wrapper.optimizer.state_dict()['state'][0]['step'].item(),
    finite=all(torch.isfinite(value).all().item() for value in averaged.state_dict().values()),
    weights=digest(model.state_dict()),
    averaged=digest(averaged.state_dict()),
)
with open(f'{sys.argv[2]}/rank{runner.rank}.json', 'w') as file:
    json.dump([report, seen], file)
"""

CONFIG = """
_base_ = '{root}/configs/rtmdet_nano.py'
work_dir = '{work}'
model = dict(bbox_head=dict(num_classes=2))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
data = dict(data_root='{data}', ann_file='boxes.json', data_prefix=dict(img='img/'))
part = dict(type='RTMCocoDataset', pipeline=pipeline, **data)
# Two datasets, with nine samples in all: four images, and three of which two occur twice.
dataset = dict(_delete_=True, type='RepeatDataset', times=1, dataset=dict(type='ConcatDataset', datasets=[
    dict(part, indices=4),
    dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=dict(part, indices=[4, 6, 7])),
]))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset)
val_dataloader = None
val_cfg = None
val_evaluator = None
train_cfg = dict(max_epochs=2)
default_hooks = dict(pipeline_switch=dict(num_last_epochs=1, switch_pipeline=pipeline))
"""


def test_two_processes_on_cpu_train_to_equal_weights(pictures, tmp_path, run_two_ranks):
    (tmp_path / 'train.py').write_text(TRAIN)
    (tmp_path / 'config.py').write_text(CONFIG.format(root=ROOT, work=tmp_path / 'work', data=pictures))
    run_two_ranks(tmp_path / 'train.py', tmp_path / 'config.py', tmp_path)

    (first, seen), (second, also_seen) = (json.loads((tmp_path / f'rank{rank}.json').read_text()) for rank in (0, 1))
    assert first == second
    assert (first['backend'], first['world'], first['steps']) == ('gloo', 2, 6)  # 9 images / (2 x 2), two epochs
    assert (first['wrapper'], first['norms']) == ('RTMDistributedDataParallel', ['BatchNorm2d'])
    assert len(seen) == len(also_seen) == 2 * 5, 'one image occurs twice per epoch, so that both processes get five'
    assert set(seen + also_seen) == {0, 1, 2, 3, 4, 6, 7}

    assert (first['updates'], first['finite']) == (5, True)
    log = ''.join(path.read_text() for path in (tmp_path / 'work').glob('*/*.log'))
    assert 'Step 2 skipped: a loss is not finite.\n  process 1: loss_cls=nan, loss_bbox=' in log


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_cpu_module_keeps_its_batchnorm_and_drops_the_gpu_number(one_process):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    # Built as by mmengine's Runner, with the index of a GPU that doesn't exist.
    wrapped = MODEL_WRAPPERS.build(
        dict(type='RTMDistributedDataParallel'), default_args=dict(module=model, device_ids=[0])
    )
    assert isinstance(wrapped, RTMDistributedDataParallel)
    assert wrapped.device_ids is None and type(wrapped.module[1]) is nn.BatchNorm2d
    assert wrapped.broadcast_buffers is False


@pytest.mark.gpu
def test_gpu_module_gets_syncbn(one_process):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).cuda()
    wrapped = RTMDistributedDataParallel(model, device_ids=[0])
    assert type(wrapped.module[1]) is nn.SyncBatchNorm and wrapped.device_ids == [0]
