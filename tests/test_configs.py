"""Every config loads, builds, is dumped unchanged and trains one step; the sizes have mmdet's numbers."""

import argparse
import inspect
import json
import re
import shutil
import uuid
from pathlib import Path

import cv2
import mmdet
import numpy as np
import oracle
import pytest
import torch
from mmdet.registry import DATASETS, MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from rtmdet_plugin import composable, find_step, set_input_size
from rtmdet_plugin.export.metadata import thresholds
from rtmdet_runtime.choices import DEPLOY_THRESHOLDS
from rtmdet_runtime.info import OUTPUTS

ROOT = Path(__file__).parents[1]
SIZES = ['nano', 'nano_person', 'tiny', 's', 'm', 'l', 'x']
MMDET_NAMES_OF_CONFIGS = {size: f'rtmdet_{size}_8xb32-300e_coco' for size in ('tiny', 's', 'm', 'l', 'x')} | dict(
    x_p6='rtmdet_x_p6_4xb8-300e_coco',
    l_swin_b='rtmdet_l_swin_b_4xb32-100e_coco',
    l_swin_b_p6='rtmdet_l_swin_b_p6_4xb16-100e_coco',
    l_convnext_b='rtmdet_l_convnext_b_4xb32-100e_coco',
    **{f'ins_{size}': f'rtmdet-ins_{size}_8xb32-300e_coco' for size in ('tiny', 's', 'm', 'l')},
    ins_x='rtmdet-ins_x_8xb16-300e_coco',
)
MMDET_SIZES = list(MMDET_NAMES_OF_CONFIGS)
INS_SIZES = [size for size in MMDET_SIZES if size.startswith('ins_')]
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet'


def all_configs() -> list[Path]:
    """Return the configs that train an RTMDet: those that inherit, outside the folders of other things."""
    found = [*ROOT.glob('configs/**/*.py'), *ROOT.glob('projects/**/*.py')]
    return sorted(
        path
        for path in found
        if not {'_base_', 'deploy', 'r50_1x', 'imagenet'} & set(path.parts) and '\n_base_ = ' in path.read_text()
    )


ALL = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in all_configs()]
BUILT = [
    pytest.param(path, id=str(path.relative_to(ROOT)), marks=[pytest.mark.slow] * ('swin' in path.stem))
    for path in all_configs()
    # The first needs mmpretrain; test_parity_variants.py tests its neck and head. A distilled model is the plain one.
    if path.stem != 'rtmdet_l_convnext_b' and '_from_' not in path.stem
]


def read(path: Path) -> Config:
    """Without the config's `custom_imports`: mmpretrain isn't installed, and the plugin is imported already."""
    return Config.fromfile(path, import_custom_modules=False)


def load(size: str) -> Config:
    return read(ROOT / 'configs' / f'rtmdet_{size}.py')


def load_mmdet(size: str) -> Config:
    return read(MMDET_CONFIGS / f'{MMDET_NAMES_OF_CONFIGS[size]}.py')


def with_options(config: Config, *options: str) -> Config:
    """`--cfg-options`, parsed as mmdet's train.py does."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    config.merge_from_dict(parser.parse_args(['--cfg-options', *options]).cfg_options)
    return config


def test_the_sizes_are_among_the_configs():
    names = {path.values[0].name for path in ALL}
    assert {f'rtmdet_{size}.py' for size in SIZES} <= names


@pytest.mark.parametrize('path', ALL)
def test_dumps_and_reloads_to_the_same(path, tmp_path):
    config = read(path)
    assert not [key for key, value in config.items() if inspect.ismodule(value) or callable(value)]
    config.dump(tmp_path / 'dumped.py')
    assert read(tmp_path / 'dumped.py').to_dict() == config.to_dict()


def make_narrow(model: ConfigDict) -> None:
    """Divide the channels of a wide model by four, in place: a step of 50 million weights takes seconds."""
    if model.backbone.get('widen_factor', 0) > 0.5:  # of mmdet's other backbones the channels aren't one number
        model.backbone.widen_factor /= 4
        model.neck.in_channels = [channels // 4 for channels in model.neck.in_channels]
        model.neck.out_channels //= 4
        model.bbox_head.update({name: model.bbox_head[name] // 4 for name in ('in_channels', 'feat_channels')})


@pytest.mark.parametrize('path', BUILT)
def test_builds_and_takes_one_step_at_64_px(path):
    config = read(path)
    make_narrow(config.model)
    if 'drop_path_rate' in config.model.backbone:
        config.model.backbone.drop_path_rate = 0.0  # a dropped path learns nothing
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = {name: value.clone() for name, value in model.named_parameters()}

    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 20.0, 60.0, 34.0]])
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0)))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, model.bbox_head.num_classes - 1]))
    sample.gt_instances.masks = BitmapMasks(np.ones((2, 64, 64), np.uint8), 64, 64)  # read by RTMDet-Ins only
    inputs = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    losses = model.train_step(dict(inputs=inputs, data_samples=[sample, sample.clone()]), optim_wrapper)

    assert torch.isfinite(losses['loss']) and losses['loss_cls'] > 0 and losses['loss_bbox'] > 0
    changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    # A level's box branch and mask kernels learn only from its own positives; two boxes don't reach all levels.
    assert {name for name in before if 'reg' not in name and 'kernel' not in name} <= changed
    assert {name for name in before if 'rtm_reg' in name} & changed


@pytest.mark.parametrize('path', ALL)
def test_pipelines_are_what_the_variables_say(path):
    config = read(path)
    dataset = config.train_dataloader.dataset
    while 'pipeline' not in dataset:
        dataset = dataset.dataset
    switch = config.default_hooks.pipeline_switch
    if switch.num_last_epochs:
        assert dataset.pipeline == config.train_pipeline
        assert switch.switch_pipeline == config.train_pipeline_stage2
    else:  # an ablation with one stage
        assert dataset.pipeline in (config.train_pipeline, config.train_pipeline_stage2)
    assert config.val_dataloader.dataset.pipeline == config.test_pipeline
    assert config.test_dataloader.dataset.pipeline == config.test_pipeline
    for pipeline in (config.train_pipeline, config.train_pipeline_stage2, config.test_pipeline):
        for transform in pipeline:
            TRANSFORMS.build(transform)


@pytest.mark.parametrize('path', ALL)
def test_both_stages_take_the_fast_path_and_need_no_more_of_the_picture_than_they_load(path):
    config = read(path)
    load, mosaic = config.train_pipeline[:2]
    assert (load.type, mosaic.type) == ('RTMLoadImageAndAnnotations', 'RTMCachedMosaicResizeCrop')
    assert tuple(load.img_scale) == tuple(mosaic.img_scale)
    load, crop = config.train_pipeline_stage2[:2]
    assert (load.type, crop.type) == ('RTMLoadImageAndAnnotations', 'RTMRandomResizeCrop')
    assert tuple(load.img_scale) == tuple(side * crop.ratio_range[1] for side in crop.scale)


@pytest.mark.parametrize('path', [case for case in ALL if '_ins_' not in case.id])  # mmdet's TTA has no masks
def test_tta_is_at_the_input_size_and_at_half_and_one_and_a_half_times_of_it(path):
    config = read(path)
    width, height = find_step(config.test_pipeline, 'Resize').scale
    sizes, _, (pad,), *_ = find_step(config.tta_pipeline, 'TestTimeAug').transforms
    assert [size.scale for size in sizes] == [(width * k // 2, height * k // 2) for k in (2, 1, 3)]
    assert pad.size == sizes[2].scale


# -- against mmdet's own configs ------------------------------------------------------------------

MMDET_NAMES = dict(
    oracle.MMDET_NAMES,
    RTMCachedMosaic='CachedMosaic',
    RTMCachedMixUp='CachedMixUp',
    RTMExpMomentumEMA='ExpMomentumEMA',
    RTMCocoMetric='CocoMetric',
    RTMCheckpointHook='CheckpointHook',
    RTMDetDataPreprocessor='DetDataPreprocessor',
    RTMEpochBasedTrainLoop='EpochBasedTrainLoop',
)
# mmdet's arguments that ours doesn't have, with the value that ours stands for.
MMDET_ONLY = dict(
    batch_augments=None,
    use_sigmoid=True,
    with_objectness=False,
    allowed_border=-1,
    pos_weight=-1,
    debug=False,
    reduction='mean',
    backend_args=None,
    use_syncbn=False,  # only in ours: mmdet's class default is True, ours syncs in the model wrapper
    mlp_ratio=4,  # this and the following are defaults of SwinTransformer
    qkv_bias=True,
    qk_scale=None,
    drop_rate=0.0,
    attn_drop_rate=0.0,
    patch_norm=True,
)


def plain(value):
    """Return a config with mmdet's names, explicit BN, and without arguments that have no counterpart."""
    if isinstance(value, dict):
        value = {k: plain(v) for k, v in value.items() if not (k in MMDET_ONLY and v == MMDET_ONLY[k])}
        if value.get('type') in ('SyncBN', 'BN'):
            return dict(type='BN', momentum=value.get('momentum', 0.1), eps=value.get('eps', 1e-5))
        return value
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return MMDET_NAMES.get(value, value) if isinstance(value, str) else value


def plain_pipeline(pipeline: list) -> list:
    """`plain`, with the defaults of the mixing transforms filled in from mmdet's classes."""
    steps = plain(composable([step.to_dict() for step in pipeline]))
    for step in steps:
        if step['type'] in ('CachedMosaic', 'CachedMixUp'):
            signature = inspect.signature(TRANSFORMS.get(step['type'])).parameters
            for name, parameter in signature.items():
                step.setdefault(name, plain(parameter.default))
            step['pad_val'] = float(np.unique(step['pad_val']).item())
    return steps


@pytest.mark.parametrize('size', MMDET_SIZES)
def test_model_is_mmdets(size):
    model = load(size).model.to_dict()
    # ours alone: no effect at sizes that mmdet's pipelines make
    assert model['data_preprocessor'].pop('pad_size_divisor') == model['bbox_head']['anchor_generator']['strides'][-1]
    assert plain(model) == plain(load_mmdet(size).model.to_dict())


@pytest.mark.parametrize('size', [size for size in MMDET_SIZES if size not in INS_SIZES])
def test_pipelines_are_mmdets(size):
    ours, theirs = load(size), load_mmdet(size)
    # tiny and s of mmdet define pipelines that its dataloader or hook may not use: compare what is used.
    assert plain_pipeline(ours.train_pipeline) == plain_pipeline(theirs.train_dataloader.dataset.pipeline)
    theirs_stage2 = theirs.custom_hooks[1].switch_pipeline
    assert plain_pipeline(ours.train_pipeline_stage2) == plain_pipeline(theirs_stage2)
    assert plain_pipeline(ours.test_pipeline) == plain_pipeline(theirs.val_dataloader.dataset.pipeline)
    assert plain(ours.tta_pipeline) == plain(theirs.tta_pipeline)
    assert ours.tta_model == theirs.tta_model


@pytest.mark.parametrize('size', INS_SIZES)
def test_pipelines_of_masks_are_those_of_boxes_with_masks(size):
    with_masks, boxes = load(size), load(size.removeprefix('ins_'))
    for name in ('train_pipeline', 'train_pipeline_stage2', 'test_pipeline'):
        steps = [dict(step) for step in with_masks[name]]
        settings = [step.pop(key, None) for step in steps for key in ('with_mask', 'recompute_bbox')]
        assert settings.count(True) == (0 if name == 'test_pipeline' else 2)
        for step in steps:
            step.pop('allow_negative_crop', None)
        assert steps == boxes[name]


@pytest.mark.parametrize('size', MMDET_SIZES)
def test_optimiser_schedule_ema_and_evaluation_are_mmdets(size):
    ours, theirs = load(size), load_mmdet(size)
    optim_wrapper = ours.optim_wrapper.to_dict()
    expected = theirs.optim_wrapper.to_dict()
    if size == 'l_convnext_b':
        for name in load_mmdet('l').optim_wrapper.paramwise_cfg:
            del expected['paramwise_cfg'][name]  # inherited, and not read by this constructor
    else:
        assert optim_wrapper.pop('constructor') == 'RTMOptimWrapperConstructor'  # the same steps, in less time
    assert optim_wrapper == expected
    assert ours.param_scheduler[0] == theirs.param_scheduler[0]  # the cosine: test_flat_cosine.py
    assert theirs.param_scheduler[1].eta_min == pytest.approx(
        ours.param_scheduler[1].eta_min_ratio * ours.optim_wrapper.optimizer.lr
    )
    defaults = dict(gamma=2000, strict_load=False)  # of ExpMomentumEMA and EMAHook
    assert plain(ours.default_hooks.ema.to_dict()) == {**defaults, **theirs.custom_hooks[0].to_dict()}
    for name, hook in theirs.default_hooks.items():
        hook_of_ours = plain(ours.default_hooks[name].to_dict())
        assert {**hook_of_ours, **plain(hook.to_dict())} == hook_of_ours

    assert plain(ours.train_cfg.type) == theirs.train_cfg.type
    for config in (ours, theirs):
        max_epochs = int(re.search(r'-(\d+)e_', MMDET_NAMES_OF_CONFIGS[size])[1])
        assert (config.train_cfg.max_epochs, config.train_cfg.val_interval) == (max_epochs, 10)
    switch = ours.default_hooks.pipeline_switch
    stage2 = ours.train_cfg.max_epochs - switch.num_last_epochs
    assert theirs.custom_hooks[1].switch_epoch == stage2
    assert theirs.train_cfg.dynamic_intervals == [(stage2, switch.val_interval)]
    assert plain(ours.val_evaluator) == plain(theirs.val_evaluator)
    assert plain(ours.test_evaluator) == plain(theirs.test_evaluator)


@pytest.mark.parametrize('size', MMDET_SIZES)
def test_data_is_mmdets(size):
    ours, theirs = load(size), load_mmdet(size)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for key in ('batch_size', 'persistent_workers', 'drop_last', 'pin_memory'):
            if (size, loader, key) != ('ins_x', 'train_dataloader', 'batch_size'):  # mmdet's has 32, its name 16
                assert ours[loader].get(key) == theirs[loader].get(key), (loader, key)
        sampler = dict(ours[loader].sampler)
        assert {**sampler, 'type': sampler['type'].removeprefix('RTM')} == theirs[loader].sampler
        for key in ('data_root', 'ann_file', 'data_prefix', 'filter_cfg', 'test_mode'):
            assert ours[loader].dataset.get(key) == theirs[loader].dataset.get(key), (loader, key)
    assert ours.train_dataloader.num_workers == theirs.train_dataloader.num_workers


@pytest.mark.parametrize('size', MMDET_SIZES)
def test_trap_lr_belongs_to_the_batch_in_mmdets_name(size):
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)-', MMDET_NAMES_OF_CONFIGS[size]).groups())
    config = load(size)
    assert config.train_dataloader.batch_size == batch
    assert config.auto_scale_lr == dict(enable=False, base_batch_size=gpus * batch)


def test_trap_lr_belongs_to_batch_256():
    for size in SIZES:
        config = load(size)
        assert config.auto_scale_lr == dict(enable=False, base_batch_size=256)
        assert config.optim_wrapper.optimizer.lr == 0.004
        assert 8 * config.train_dataloader.batch_size == 256


@pytest.mark.parametrize('size', SIZES)
def test_trap_scale_jitter_and_caches(size):
    config = load(size)
    small = size not in ('m', 'l', 'x')
    mosaic = find_step(config.train_pipeline, 'RTMCachedMosaicResizeCrop')
    mixup = find_step(config.train_pipeline, 'RTMCachedMixUp')
    crop = find_step(config.train_pipeline_stage2, 'RTMRandomResizeCrop')
    assert mosaic.ratio_range == crop.ratio_range == ((0.5, 2.0) if small else (0.1, 2.0))
    mild = size in ('nano', 'nano_person', 'tiny')
    assert (mosaic.max_cached_images, mosaic.random_pop) == ((20, False) if mild else (40, True))
    expected = (10, False, 0.5) if mild else (20, True, 1.0)
    assert (mixup.max_cached_images, mixup.random_pop, mixup.prob) == expected


# -- nano -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', ['nano', 'nano_person'])
def test_nano_is_320_px_throughout(size):
    config = load(size)
    full, double = (320, 320), (640, 640)
    sides = [
        {key: tuple(step[key]) for key in ('img_scale', 'scale', 'crop_size', 'size') if key in step}
        for pipeline in (config.train_pipeline, config.train_pipeline_stage2, config.test_pipeline)
        for step in pipeline
    ]
    expected = [
        *(dict(img_scale=full), dict(img_scale=full, crop_size=full), dict(size=full), dict(img_scale=full)),
        *(dict(img_scale=double), dict(scale=full, crop_size=full), dict(size=full)),  # enlarged to twice the side
        *(dict(scale=full), dict(size=full)),
    ]
    assert [side for side in sides if side] == expected


def test_nano_person_keeps_one_class_everywhere():
    config = load('nano_person')
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert loader.dataset.metainfo == dict(classes=('person',))
    assert config.model.bbox_head.num_classes == 1


# -- use of the configs -------------------------------------------------------------------


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> Path:
    """Eight generated images of 64 px with one box each, in the folders of COCO."""
    root = tmp_path_factory.mktemp('coco')
    rng = np.random.default_rng(0)
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        images, annotations = [], []
        for i in range(8):
            cv2.imwrite(str(root / split / f'{i}.png'), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
            images.append(dict(id=i, file_name=f'{i}.png', width=64, height=64))
            box = dict(bbox=[8, 8, 40, 40], area=1600, iscrowd=0, segmentation=[[8, 8, 48, 8, 48, 48, 8, 48]])
            annotations.append(dict(id=i + 1, image_id=i, category_id=1 + i % 2, **box))
        categories = [dict(id=1, name='disc'), dict(id=2, name='square')]
        (root / 'annotations').mkdir(exist_ok=True)
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return root


def small_runner(config: Config, work_dir: Path) -> Runner:
    config.work_dir = str(work_dir)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.experiment_name = uuid.uuid4().hex
    return Runner.from_cfg(config)


@pytest.mark.parametrize('max_epochs, stage2, middle', [(50, 30, 100), (300, 280, 600), (7, 0, 14)])
def test_max_epochs_alone_moves_everything(pictures, tmp_path, monkeypatch, max_epochs, stage2, middle):
    monkeypatch.setenv('RTMDET_COCO', str(pictures))
    config = with_options(load('nano'), f'train_cfg.max_epochs={max_epochs}', 'model.bbox_head.num_classes=2')
    runner = small_runner(config, tmp_path)
    loop = runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    warmup, cosine = runner.build_param_scheduler(runner.param_schedulers)
    assert (warmup.begin, warmup.end) == (0, 1000)
    assert len(loop.dataloader) == 4 and cosine.end // 2 == middle and cosine.end == 4 * max_epochs

    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'RTMPipelineSwitchHook')
    hook.before_train(runner)
    validated = []
    for loop._epoch in range(1, max_epochs + 1):
        loop._decide_current_val_interval()
        if loop.epoch % loop.val_interval == 0:
            validated.append(loop.epoch)
    every = [epoch for epoch in range(1, max_epochs + 1) if epoch >= max(stage2, 1) or epoch % 10 == 0]
    assert validated == every

    stage1_pipeline = loop.dataloader.dataset.pipeline
    loop._epoch = stage2 - 1
    if stage2:
        hook.before_train_epoch(runner)
        assert loop.dataloader.dataset.pipeline is stage1_pipeline
    loop._epoch = stage2
    hook.before_train_epoch(runner)
    assert 'RTMCachedM' not in repr(loop.dataloader.dataset.pipeline)


def test_ten_lines_for_own_data_train(pictures, tmp_path):
    """A user's config over a size, by path: trains through both stages and evaluates."""
    text = f"""
_base_ = '{ROOT}/configs/rtmdet_nano.py'
data_root = '{pictures}/'
model = dict(bbox_head=dict(num_classes=2))
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2)
default_hooks = dict(pipeline_switch=dict(num_last_epochs=1))
"""
    (tmp_path / 'mine.py').write_text(text)
    # An untrained network gives boxes without an area, and so nothing to evaluate, except with exp_on_reg.
    options = ('model.bbox_head.exp_on_reg=True', 'train_dataloader.dataset.indices=4')
    config = with_options(Config.fromfile(tmp_path / 'mine.py'), *options)
    runner = small_runner(config, tmp_path / 'work')
    runner.train()
    log = ''.join(path.read_text() for path in Path(runner.log_dir).glob('*.log'))
    assert 'Stage 2 (epochs 2 to 2): switched 1 dataset(s).' in log
    assert list((tmp_path / 'work').glob('best_coco_bbox_mAP_epoch_*.pth'))
    assert (tmp_path / 'work' / 'epoch_2.pth').exists()


def test_masks_are_trained_and_evaluated(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv('RTMDET_COCO', str(pictures))
    config = load('ins_tiny')
    set_input_size(config, 64)
    config = with_options(
        config,
        'model.backbone.init_cfg=None',
        'model.bbox_head.num_classes=2',
        'model.test_cfg.score_thr=0.001',
        'train_cfg.max_epochs=1',
        'default_hooks.pipeline_switch.num_last_epochs=0',
        'train_dataloader.dataset.indices=4',
        'val_dataloader.dataset.indices=2',
    )
    runner = small_runner(config, tmp_path)
    runner.train()
    scores = runner.message_hub.log_scalars
    assert all(np.isfinite(scores[f'train/{name}'].mean()) for name in ('loss_cls', 'loss_bbox', 'loss_mask'))
    assert scores['train/loss_mask'].mean() > 0.1
    assert {'val/coco/bbox_mAP', 'val/coco/segm_mAP', 'val/coco/segm_mAP_50'} <= set(scores)


def test_the_composable_path_as_the_comment_says(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv('RTMDET_COCO', str(pictures))
    comment = (ROOT / 'configs' / '_base_' / 'coco_detection.py').read_text().split('\n#\n')[1].splitlines()[:5]
    lines = '\n'.join(line.removeprefix('# ') for line in comment)
    (tmp_path / 'slow.py').write_text(f"_base_ = '{ROOT}/configs/rtmdet_nano.py'\n{lines}\n")
    config = Config.fromfile(tmp_path / 'slow.py')
    assert not [key for key, value in config.items() if inspect.ismodule(value) or callable(value)]
    for pipeline in (config.train_dataloader.dataset.pipeline, config.default_hooks.pipeline_switch.switch_pipeline):
        assert [step.type for step in pipeline[:2]] == ['LoadImageFromFile', 'LoadAnnotations']
        dataset = DATASETS.build(dict(config.train_dataloader.dataset, pipeline=pipeline))
        assert dataset[0]['inputs'].shape == (3, 320, 320)


def test_wrong_num_classes_names_the_option(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv('RTMDET_COCO', str(pictures))
    with pytest.raises(ValueError, match='--cfg-options model.bbox_head.num_classes=2'):
        small_runner(load('nano'), tmp_path).train()


@pytest.mark.parametrize('size', ['tiny', 's'])
def test_pretrained_backbone_and_going_without(size):
    init_cfg = load(size).model.backbone.init_cfg
    assert init_cfg.prefix == 'backbone.' and init_cfg.checkpoint.endswith(f'/cspnext-{size}_imagenet_600e.pth')
    assert init_cfg == load_mmdet(size).model.backbone.init_cfg
    config = with_options(load(size), 'model.backbone.init_cfg=None')
    assert config.model.backbone.init_cfg is None
    init_default_scope('mmdet')
    MODELS.build(config.model).init_weights()  # would ask the network otherwise


@pytest.mark.parametrize('size', ['nano', 'm', 'l', 'x'])
def test_other_sizes_start_without_a_download(size):
    assert load(size).model.backbone.get('init_cfg') is None


@pytest.mark.parametrize('value', ['/somewhere/coco', '/somewhere/coco/'])
def test_data_location_with_and_without_slash(monkeypatch, value):
    monkeypatch.setenv('RTMDET_COCO', value)
    config = load('s')
    assert config.val_evaluator.ann_file == '/somewhere/coco/annotations/instances_val2017.json'
    assert config.train_dataloader.dataset.data_root == '/somewhere/coco/'
    monkeypatch.delenv('RTMDET_COCO')
    assert load('s').train_dataloader.dataset.data_root == 'data/coco/'


def test_deploy_preset(tmp_path):
    text = f"""
_base_ = ['{ROOT}/configs/rtmdet_tiny.py', '{ROOT}/configs/_base_/deploy_preset.py']
model = dict(test_cfg=_base_.deploy_test_cfg)
"""
    (tmp_path / 'use.py').write_text(text)
    test_cfg = Config.fromfile(tmp_path / 'use.py').model.test_cfg
    assert thresholds(test_cfg) == DEPLOY_THRESHOLDS
    assert test_cfg.min_bbox_size == 0, 'as in the configs'


def test_deploy_configs_have_the_thresholds_and_names_of_our_exports():
    for path in sorted((ROOT / 'configs' / 'deploy').glob('*.py')):
        config = Config.fromfile(path)
        assert config.codebase_config.post_processing == dict(
            score_threshold=DEPLOY_THRESHOLDS['score_thr'],
            iou_threshold=DEPLOY_THRESHOLDS['iou_thr'],
            pre_top_k=DEPLOY_THRESHOLDS['nms_pre'],
            max_output_boxes_per_class=DEPLOY_THRESHOLDS['max_per_img'],
            keep_top_k=DEPLOY_THRESHOLDS['max_per_img'],
        ), path
        form = 'decoded' if path.stem.startswith('ncnn') else 'nms'
        assert tuple(config.onnx_config.output_names) == OUTPUTS[form], path
        axes = config.onnx_config.get('dynamic_axes', {})
        assert set(axes) in (set(), {'input', *OUTPUTS[form]}), path


def test_a_default_hook_can_be_left_out_as_the_schedule_says(tmp_path):
    schedule = (ROOT / 'configs' / '_base_' / 'schedule_300e.py').read_text()
    line = next(line for line in schedule.splitlines() if line.startswith('# default_hooks = dict(_delete_'))
    (tmp_path / 'no_ema.py').write_text(f"_base_ = '{ROOT}/configs/rtmdet_s.py'\n{line.removeprefix('# ')}\n")
    config = Config.fromfile(tmp_path / 'no_ema.py')
    assert set(config.default_hooks) == set(load('s').default_hooks) - {'ema'}
    assert config.default_hooks.pipeline_switch == load('s').default_hooks.pipeline_switch


def test_a_copy_of_the_folder_works(tmp_path):
    """Configs find each other by relative paths only, as the wheel needs."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    copied = Config.fromfile(tmp_path / 'configs' / 'rtmdet_nano_person.py')
    assert copied.to_dict() == load('nano_person').to_dict()
