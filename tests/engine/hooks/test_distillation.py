"""Distillation in real runs: a teacher that never changes, checkpoints of the student, exact resume, the end."""

import copy
import functools
import json
import re
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.engine.hooks import PipelineSwitchHook
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from states import assert_same, training_state
from user_run import CONFIGS, write_user_data

from rtmdet_plugin import publish
from rtmdet_plugin.checkpoints.load_model import load_model
from rtmdet_plugin.checkpoints.mmyolo_keys import rename
from rtmdet_plugin.engine.hooks import RTMDistillationHook
from rtmdet_plugin.engine.hooks.distillation import load_teacher
from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin_startup import config_path

EPOCHS, STAGE_2 = 4, 2  # epochs, and of them in stage 2
CLASSES = ('blue', 'red')
SIZES = dict(teacher=32, student=24)
"""Channels of the necks."""


def write_config(folder: Path, name: str, channels: int) -> Path:
    """Write a user's config for a network without depthwise convolutions, which is fast on CPUs."""
    (folder / f'{name}.py').write_text(f"""
_base_ = 'config.py'
model = dict(
    backbone=dict(widen_factor=0.125, use_depthwise=False),
    neck=dict(in_channels=[32, 64, 128], out_channels={channels}, use_depthwise=False),
    bbox_head=dict(in_channels={channels}, feat_channels={channels}, use_depthwise=False),
)
""")
    return folder / f'{name}.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A user's folder: images, `teacher.py` and weights for it in `teacher.pth`, `student.py`."""
    folder = write_user_data(tmp_path_factory.mktemp('distillation'))
    for name, channels in SIZES.items():
        write_config(folder, name, channels)
    torch.manual_seed(1)
    teacher = MODELS.build(Config.fromfile(folder / 'teacher.py').model)
    teacher.init_weights()
    for buffer in teacher.buffers():  # statistics of a trained network, unlike those of a batch
        if buffer.is_floating_point() and buffer.dim() == 1:
            buffer.uniform_(0.5, 2)
    torch.save(
        dict(state_dict=teacher.state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES))), folder / 'teacher.pth'
    )
    return folder


@functools.cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


def student_config(folder: Path, work_dir: Path | None = None, **distillation) -> Config:
    config = copy.deepcopy(read(folder / 'student.py'))
    config.work_dir = str(work_dir)
    config.train_cfg.update(max_epochs=EPOCHS, val_interval=EPOCHS)
    config.train_dataloader.update(batch_size=8, num_workers=0, persistent_workers=False)
    config.default_hooks.pipeline_switch.update(num_last_epochs=STAGE_2, val_interval=EPOCHS)
    config.default_hooks.checkpoint.max_keep_ckpts = EPOCHS
    config.param_scheduler[0].end = 5
    config.default_hooks.ema.update(momentum=0.1, gamma=5)
    teacher = dict(teacher_config=str(folder / 'teacher.py'), teacher_ckpt=str(folder / 'teacher.pth'))
    config.default_hooks.distillation = dict(teacher, type='RTMDistillationHook', **distillation)
    return config


def hook_of(runner: Runner) -> RTMDistillationHook:
    return next(hook for hook in runner.hooks if isinstance(hook, RTMDistillationHook))


class Watch(Hook):
    """Records what the distillation hook holds in each epoch."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.teacher = None
        self.teachers = []  # state after the epoch, or None
        self.losses = []  # names of the losses in the epoch's last step
        self.parameters = []  # number of parameters that the optimiser trains

    def after_train_epoch(self, runner):
        teacher = hook_of(runner)._teacher
        self.teachers.append(teacher and {key: value.clone() for key, value in teacher.state_dict().items()})
        self.teacher = weakref.ref(teacher) if teacher else self.teacher
        self.parameters.append(sum(len(group['params']) for group in runner.optim_wrapper.optimizer.param_groups))
        self.losses.append([name for name in runner.last_losses if 'loss' in name])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.last_losses = dict(outputs)


def train(config: Config) -> Watch:
    runner, watch = Runner.from_cfg(config), Watch()
    runner.register_hook(watch, priority='LOWEST')
    runner.train()
    watch.model = runner.model
    watch.log = ''.join(path.read_text() for path in Path(runner.log_dir).glob('*.log'))
    return watch


@pytest.fixture(scope='module')
def run(folder) -> Watch:
    """A complete run with two epochs of distillation and two of stage 2."""
    return train(student_config(folder, folder / 'work'))


def load(work_dir: Path, epoch: int) -> dict:
    return torch.load(work_dir / f'epoch_{epoch}.pth', weights_only=True)


def test_the_teacher_keeps_its_bits(folder, run):
    loaded = torch.load(folder / 'teacher.pth', weights_only=True)['state_dict']
    renamed = {'0.': 'backbone.', '1.': 'neck.'}
    for state in run.teachers[:-STAGE_2]:
        assert len(state) > 100
        for key, value in state.items():
            assert torch.equal(value, loaded[renamed[key[:2]] + key[2:]]), key
    assert run.log.count('Distillation until epoch 2, from ') == 1


def test_in_stage_2_nothing_is_left(folder, run):
    assert run.teachers[-STAGE_2:] == [None, None] and run.teacher() is None
    plain = len(list(run.model.parameters()))
    assert run.parameters == [plain + 3, plain + 3, plain, plain]
    assert [sorted(names) for names in run.losses] == [
        *[['loss', 'loss_bbox', 'loss_cls', 'loss_distill']] * 2, *[['loss', 'loss_bbox', 'loss_cls']] * 2
    ]  # fmt: skip
    assert not run.model._forward_hooks and not any(conv.conv._forward_hooks for conv in run.model.neck.out_convs)
    assert 'Distillation ended with epoch 2; the teacher is released.' in run.log
    last = [line for line in run.log.splitlines() if 'Epoch(train) [4]' in line]
    assert last and not any('loss_distill' in line for line in last)


def test_checkpoints_have_the_weights_of_a_plain_student(folder, run, tmp_path):
    config = student_config(folder)
    plain = MODELS.build(config.model).state_dict()
    for epoch in range(1, EPOCHS + 1):
        checkpoint = load(folder / 'work', epoch)
        assert checkpoint['state_dict'].keys() == plain.keys()
        assert checkpoint['ema_state_dict'].keys() == {f'module.{key}' for key in plain} | {'steps'}
        assert ('distillation' in checkpoint) == (epoch <= EPOCHS - STAGE_2)
    (best,) = (folder / 'work').glob('best_*.pth')
    assert 'distillation' not in torch.load(best, weights_only=True)

    published = publish(folder / 'work' / 'epoch_1.pth', tmp_path / 'student.pth')
    assert 'distillation' in published.dropped
    load_model(config, published.path)


@pytest.mark.parametrize('epoch', [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_same_bits(folder, run, tmp_path, epoch):
    """From within the distillation, from its last checkpoint, and from stage 2."""
    config = student_config(folder, tmp_path)
    config.update(resume=True, load_from=str(folder / 'work' / f'epoch_{epoch}.pth'))
    if epoch >= EPOCHS - STAGE_2:  # the teacher isn't needed any more
        config.default_hooks.distillation.teacher_ckpt = 'missing.pth'
    watch = train(config)
    assert [state is None for state in watch.teachers] == [k >= EPOCHS - STAGE_2 for k in range(epoch, EPOCHS)]
    assert_same(
        training_state(folder / 'work' / f'epoch_{EPOCHS}.pth'), training_state(tmp_path / f'epoch_{EPOCHS}.pth')
    )
    if epoch == 1:  # the connectors themselves, too
        assert_same(load(folder / 'work', 2)['distillation'], load(tmp_path, 2)['distillation'])


# -- without a Runner ------------------------------------------------------------------------------


def make_hook(folder: Path, **changes) -> RTMDistillationHook:
    teacher = dict(teacher_config=str(folder / 'teacher.py'), teacher_ckpt=str(folder / 'teacher.pth'))
    return RTMDistillationHook(**{**teacher, **changes})


def toy_runner(folder: Path, changes: dict | None = None, classes: tuple | None = CLASSES) -> SimpleNamespace:
    """Make what the hook asks of a Runner, with a new student."""
    torch.manual_seed(0)
    config = student_config(folder)
    config.optim_wrapper.optimizer.lr = 1e-3
    config.merge_from_dict(changes or {})
    model = MODELS.build(config.model).train()
    return SimpleNamespace(
        model=model,
        optim_wrapper=build_optim_wrapper(model, config.optim_wrapper),
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes))),
        logger=SimpleNamespace(info=print, warning=print),
        message_hub=SimpleNamespace(log_scalars={}),
        **dict(epoch=0, iter=0, max_epochs=EPOCHS, hooks=[], distributed=False, _resume=False),
    )


def batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator)
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0)))
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 20.0, 60.0, 34.0]])
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]))
    return dict(inputs=list(images), data_samples=[sample.clone() for _ in images])


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'RTMBFloat16OptimWrapper'])
def test_on_one_batch_the_loss_falls_and_the_teacher_stays(folder, wrapper):
    runner, hook = toy_runner(folder, {'optim_wrapper.type': wrapper}), make_hook(folder)
    hook.before_train(runner)
    teacher = hook._teacher
    before = copy.deepcopy(teacher.state_dict())
    dtypes = set()
    teacher[1].out_convs[0].conv.register_forward_hook(lambda *args: dtypes.add(args[-1].dtype))
    losses = [runner.model.train_step(batch(), runner.optim_wrapper)['loss_distill'].item() for _ in range(8)]
    assert losses[-1] < 0.95 * losses[0]
    assert_same(teacher.state_dict(), before)
    assert not teacher.training and all(parameter.grad is None for parameter in teacher.parameters())
    assert dtypes == {torch.float32 if wrapper == 'OptimWrapper' else torch.bfloat16}


def test_the_student_and_the_connectors_learn_from_the_teacher(folder):
    runner, hook = toy_runner(folder), make_hook(folder)
    hook.before_train(runner)
    model = runner.model
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    assert [value.ndim for value in losses['loss_distill']] == [0, 0, 0]
    sum(losses['loss_distill']).backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    parts = {name.split('.')[0] for name in learning}
    assert parts == {'backbone', 'neck'}, 'the head is behind the features'
    assert all(parameter.grad.any() for parameter in hook._loss.parameters())


def test_an_evaluation_has_no_distillation_and_leaves_no_features(folder):
    runner, hook = toy_runner(folder), make_hook(folder)
    hook.before_train(runner)
    model = runner.model.eval()
    with torch.no_grad():
        results = model.test_step(batch())
    assert len(results) == 4
    assert [recorder.take() for recorder in hook._recorders] == [[], []]


def test_the_teacher_has_the_memory_order_of_the_student(folder):
    runner, hook = toy_runner(folder), make_hook(folder)
    runner.model.to(memory_format=torch.channels_last)
    hook.before_train(runner)
    weight = hook._teacher[1].out_convs[0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_weights_of_mmyolo_teach_even_a_config_that_decodes_other_boxes(folder, tmp_path):
    """Its models m, l and x don't exponentiate, ours do; the teacher's boxes aren't used."""
    weights = torch.load(folder / 'teacher.pth', weights_only=True)['state_dict']
    torch.save(dict(state_dict=rename(weights, 'mmyolo')), tmp_path / 'mmyolo.pth')
    (tmp_path / 'exp.py').write_text(f"_base_ = '{folder}/teacher.py'\nmodel = dict(bbox_head=dict(exp_on_reg=True))\n")
    teacher = load_teacher(str(tmp_path / 'exp.py'), str(tmp_path / 'mmyolo.pth'))
    assert_same(
        teacher.neck.state_dict(), load_teacher(f'{folder}/teacher.py', f'{folder}/teacher.pth').neck.state_dict()
    )


def test_a_url_is_read_from_the_cache_of_pytorch(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    shutil.copy(folder / 'teacher.pth', tmp_path / 'checkpoints' / 'known.pth')
    assert not load_teacher(f'{folder}/teacher.py', 'http://localhost:9/known.pth').training
    with pytest.raises(
        RefusedError, match=f'cannot be downloaded .*; put the file at {tmp_path}/checkpoints/other.pth'
    ):
        load_teacher(f'{folder}/teacher.py', 'http://localhost:9/other.pth')


def test_stage_2_of_mmdets_hook_ends_the_distillation(folder):
    runner, hook = toy_runner(folder), make_hook(folder)
    runner.hooks = [PipelineSwitchHook(switch_epoch=3, switch_pipeline=[])]
    for runner.epoch, teaches in ((2, True), (3, False)):
        hook.before_train(runner)
        assert (hook._teacher is not None) == teaches
        hook.after_train(runner)


def test_the_scope_of_the_run_stays(folder):
    with DefaultScope.overwrite_default_scope('mmengine'):
        assert load_teacher(f'{folder}/teacher.py', f'{folder}/teacher.pth').cfg.default_scope == 'mmdet'
        assert DefaultScope.get_current_instance().scope_name == 'mmengine'


MEAN = {'model.data_preprocessor.mean': [0.0, 0.0, 0.0]}
ORDER = {'model.data_preprocessor.bgr_to_rgb': True}
STRIDES = {'model.bbox_head.anchor_generator.strides': [4, 8, 16]}
NECK = {'model.neck': dict(_delete_=True, type='FPN', in_channels=[32, 64, 128], out_channels=24, num_outs=3)}


@pytest.mark.parametrize(
    ('student', 'hook', 'reason'),
    [
        ({}, dict(teacher_ckpt='nowhere.pth'), "teacher_ckpt='nowhere.pth': nowhere.pth: no such checkpoint"),
        ({}, dict(teacher_config='nowhere.py'), 'nowhere.py: no such config'),
        ({}, dict(teacher_config=f'{CONFIGS}/rtmdet_s.py'), 'tensors have another shape'),
        ({}, dict(teacher_config=f'{CONFIGS}/_base_/runtime.py'), 'must be the config of a detector'),
        (MEAN, {}, r"data_preprocessor.mean must be \[0.0, 0.0, 0.0\], as the student's, got \[103.5"),
        (ORDER, {}, "data_preprocessor.bgr_to_rgb must be True, as the student's, got False"),
        (STRIDES, {}, r"anchor_generator.strides must be \[\(4, 4\), .*, as the student's, got \[\(8, 8\)"),
        ({'model.bbox_head.num_classes': 3}, {}, "bbox_head.num_classes must be 3, as the student's, got 2"),
        (NECK, {}, 'model.neck must be a CSPNeXtPAFPN, which has out_convs, got FPN'),
        ({}, dict(tau=0), 'tau must be positive, got 0'),
        ({}, dict(loss_weight=-1.0), 'loss_weight must be at least 0, got -1.0'),
    ],
    ids=[
        'checkpoint',
        'config',
        'size',
        'no detector',
        'mean',
        'channel order',
        'strides',
        'classes',
        'neck',
        'tau',
        'loss_weight',
    ],  # fmt: skip
)
def test_a_teacher_that_does_not_fit_is_refused_by_name(folder, student, hook, reason):
    with pytest.raises(RefusedError, match=reason):
        make_hook(folder, **hook).before_train(toy_runner(folder, student))


def test_a_teacher_of_other_classes_is_refused_by_name(folder):
    with pytest.raises(
        RefusedError, match=r"classes must be \['blue', 'dog'\], as the student's, got \['blue', 'red'\]"
    ):
        make_hook(folder).before_train(toy_runner(folder, classes=('blue', 'dog')))
    make_hook(folder).before_train(toy_runner(folder, classes=None))  # not known


def test_connectors_of_another_teacher_are_refused_on_resume(folder):
    runner, hook = toy_runner(folder), make_hook(folder)
    hook.before_train(runner)
    checkpoint = dict(optimizer={})
    hook.before_save_checkpoint(runner, checkpoint)
    write_config(folder, 'wider', 40)
    torch.save(
        dict(state_dict=MODELS.build(Config.fromfile(folder / 'wider.py').model).state_dict()), folder / 'wider.pth'
    )

    resumed = toy_runner(folder)
    resumed._resume = True
    other = make_hook(folder, teacher_config=f'{folder}/wider.py', teacher_ckpt=f'{folder}/wider.pth')
    other.after_load_checkpoint(resumed, checkpoint)
    with pytest.raises(RefusedError, match=r'teacher_config must be that of the run .* channels \[\(24, 32\)'):
        other.before_train(resumed)


def test_a_plain_checkpoint_can_be_resumed_with_a_teacher(folder, capsys):
    runner, hook = toy_runner(folder), make_hook(folder)
    runner._resume, runner.iter = True, 8
    hook.after_load_checkpoint(runner, {})
    hook.before_train(runner)
    assert 'has no connectors: they start from random weights' in capsys.readouterr().out
    assert runner.model.train_step(batch(), runner.optim_wrapper)['loss_distill'] > 0


PAIRS = [re.fullmatch(r'rtmdet_(\w+)_from_(\w+)', path.stem).groups() for path in (CONFIGS / 'distillation').iterdir()]


@pytest.mark.parametrize(('student', 'teacher'), sorted(PAIRS))
def test_shipped_configs_train_the_plain_model_with_published_weights(student, teacher):
    config = Config.fromfile(CONFIGS / 'distillation' / f'rtmdet_{student}_from_{teacher}.py')
    assert config.model == Config.fromfile(CONFIGS / f'rtmdet_{student}.py').model, 'so it is exported like that one'
    settings = config.default_hooks.distillation
    assert Path(config_path(settings.teacher_config)).name == f'rtmdet_{teacher}.py'
    page = (CONFIGS.parent / 'docs' / 'configs.md').read_text()
    assert re.search(rf'\[`rtmdet_{teacher}`\].*\[pth\]\({settings.teacher_ckpt}\)', page)


# -- two processes ---------------------------------------------------------------------------------

TWO_RANKS = """
import json, sys
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rtmdet_plugin.engine.hooks import RTMDistillationHook

class Probe(Hook):
    priority = 'LOWEST'
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.hook = next(hook for hook in runner.hooks if isinstance(hook, RTMDistillationHook))
        if self.hook._loss is not None:
            report.append([weight.double().sum().item() for weight in self.hook._loss.parameters()])

torch.set_num_threads(1)
config, report = Config.fromfile(sys.argv[1]), []
config.launcher = 'pytorch'
runner = Runner.from_cfg(config)
torch.manual_seed(runner.rank)  # the connectors of the first rank become those of both
runner.register_hook(Probe(), priority='LOWEST')
runner.train()
weights = [value.double().sum().item() for value in runner.model.module.state_dict().values()]
with open(f'{sys.argv[2]}/rank{runner.rank}.json', 'w') as file:
    json.dump([report, weights], file)
"""


def test_two_processes_keep_equal_connectors_and_go_on_without_them(folder, tmp_path, run_two_ranks):
    config = student_config(folder, tmp_path / 'work')
    config.train_cfg.max_epochs = STAGE_2 + 1
    config.train_dataloader.batch_size = 4
    config.default_hooks.pop('process_watch')
    config.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    config.dump(tmp_path / 'config.py')
    (tmp_path / 'train.py').write_text(TWO_RANKS)
    run_two_ranks(tmp_path / 'train.py', tmp_path / 'config.py', tmp_path)
    first, second = (json.loads((tmp_path / f'rank{rank}.json').read_text()) for rank in (0, 1))
    assert first == second
    connectors = first[0]
    assert len(connectors) == 2 and connectors[0] != connectors[1], 'one epoch of two steps, and two without'
