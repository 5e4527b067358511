"""Configs of mmdet's RTMDet, as shipped and with users' edits, get our parts and give the same outputs."""

import copy
import inspect
import re
from pathlib import Path

import mmdet
import pytest
import torch
from mmcv.ops import nms
from mmdet import registry as registries
from mmdet.registry import HOOKS, MODELS, TASK_UTILS, TRANSFORMS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import Registry
from oracle import vary_predictions

from rtmdet_plugin import drop_in
from rtmdet_plugin.config import swaps
from rtmdet_plugin.errors import RefusedError

CONFIGS = Path(__file__).parents[2] / 'configs'
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet'
TINY = 'rtmdet_tiny_8xb32-300e_coco.py'
INS_TINY = 'rtmdet-ins_tiny_8xb32-300e_coco.py'
# Kinds of edits found in configs that people have published: text of the config, and what can't be moved.
EDITS = dict(
    classes=("model = dict(bbox_head=dict(num_classes=3), backbone=dict(frozen_stages=1, norm_eval=True))", []),
    without_augmentation=(
        """
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(640, 640), keep_ratio=True), dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=(640, 640)), dict(type='PackDetInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
custom_hooks = []
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=20)
optim_wrapper = dict(type='AmpOptimWrapper', paramwise_cfg=dict(bias_lr_mult=2.0))
param_scheduler = [dict(type='ConstantLR', factor=1.0)]
""",
        [],
    ),
    empty_crops=(
        """
train_pipeline = _base_.train_pipeline_stage2
train_pipeline[3].allow_negative_crop = True
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, filter_cfg=dict(filter_empty_gt=False)))
custom_hooks = [_base_.custom_hooks[0]]
""",
        [],
    ),
    own_transform=(
        """
train_pipeline = _base_.train_pipeline
train_pipeline.insert(2, dict(type='CropToRegion', margin=8))
train_dataloader = dict(dataset=dict(type='RegionDataset', pipeline=train_pipeline))
""",
        [
            'train_pipeline, train_dataloader.dataset.pipeline: LoadImageFromFile + LoadAnnotations: they return the '
            'boxes that CropToRegion may need',
            'train_dataloader.dataset: RegionDataset stays; there is no counterpart',
        ],
    ),
    several_sizes=(
        """
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=[(640, 640), (1280, 1280)], keep_ratio=True), dict(type='RandomFlip', prob=None),
    dict(type='PackDetInputs')]
train_dataloader = dict(
    batch_sampler=dict(_delete_=True, type='AspectRatioBatchSampler'),
    dataset=dict(_delete_=True, type='ConcatDataset', datasets=[
        dict(type='CocoDataset', ann_file='a.json', pipeline=train_pipeline),
        dict(type='RepeatDataset', times=5, dataset=dict(type='mmdet.CocoDataset', pipeline=train_pipeline))]))
""",
        [
            'train_pipeline, train_dataloader.dataset.datasets.0.pipeline, '
            'train_dataloader.dataset.datasets.1.dataset.pipeline: RandomFlip: RTMRandomFlip has no prob=None',
            'train_dataloader.collate_fn: pseudo_collate stays; rtm_collate needs images of one size, padded by '
            'Pad(size=...)',
        ],
    ),
    other_losses=(
        """
model = dict(
    bbox_head=dict(loss_cls=dict(activated=True), loss_bbox=dict(type='CIoULoss', loss_weight=2.0)),
    train_cfg=dict(assigner=dict(_delete_=True, type='SimOTAAssigner')))
""",
        [
            'model.bbox_head.loss_cls: QualityFocalLoss stays; RTMQualityFocalLoss has no activated=True',
            'model.bbox_head.loss_bbox: CIoULoss stays; there is no counterpart',
            'model.train_cfg.assigner: SimOTAAssigner stays; there is no counterpart',
        ],
    ),
    other_backbone=(
        """
model = dict(
    data_preprocessor=dict(type='FourChannelPreprocessor'), neck=dict(in_channels=[32, 96, 320]),
    backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(2, 4, 6)))
default_hooks = dict(early_stopping=dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP'), checkpoint=None)
""",
        [
            'model.data_preprocessor: FourChannelPreprocessor stays; there is no counterpart',
            'model.backbone: MobileNetV2 stays; there is no counterpart',
            'train_dataloader.collate_fn: pseudo_collate stays; rtm_collate needs RTMDetDataPreprocessor',
        ],
    ),
    pools_and_convolutions=(
        """
model = dict(
    backbone=dict(spp_kernel_sizes=(3, 5, 7)), neck=dict(conv_cfg=dict(type='Conv2d')),
    bbox_head=dict(with_objectness=True), train_cfg=dict(pos_weight=2))
model_wrapper_cfg = dict(type='MMSeparateDistributedDataParallel')
""",
        [
            'model.backbone: CSPNeXt stays; RTMCSPNeXt has no spp_kernel_sizes=(3, 5, 7)',
            "model.neck: CSPNeXtPAFPN stays; RTMCSPNeXtPAFPN has no conv_cfg={'type': 'Conv2d'}",
            'model.bbox_head: RTMDetSepBNHead stays; RTMSepBNHead has no model.train_cfg.pos_weight=2',
            'model_wrapper_cfg: MMSeparateDistributedDataParallel stays; it synchronises no batch norms',
        ],
    ),
    other_schedule=(
        """
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=9000)
optim_wrapper = dict(constructor='LearningRateDecayOptimizerConstructor')
custom_hooks = [dict(type='EMAHook', ema_type='StochasticWeightAverage'), _base_.custom_hooks[1]]
val_evaluator = [dict(type='CocoMetric', ann_file='a.json'), dict(type='VOCMetric')]
find_unused_parameters = True
""",
        [
            'val_evaluator: VOCMetric stays; there is no counterpart',
            'optim_wrapper.constructor: LearningRateDecayOptimizerConstructor stays; there is no counterpart',
            'train_cfg: IterBasedTrainLoop stays; there is no counterpart',
            'custom_hooks: PipelineSwitchHook stays; RTMPipelineSwitchHook needs an epoch-based loop',
            'custom_hooks.0: StochasticWeightAverage stays; there is no counterpart',
        ],
    ),
    shorter=(
        """
_base_.custom_hooks[1].switch_epoch = 35
model = dict(bbox_head=dict(norm_cfg=dict(_delete_=True, type='BN', momentum=0.05)))
train_cfg = dict(max_epochs=40)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
param_scheduler = [dict(
    type='CosineAnnealingLR', eta_min=1e-5, begin=20, end=40, T_max=20, by_epoch=True, convert_to_iter_based=True)]
""",
        [
            'param_scheduler: CosineAnnealingLR stays; RTMFlatCosineLR has no one eta_min for layers with different '
            'learning rates'
        ],
    ),
)  # fmt: skip
MODEL_EDITS = ['classes', 'other_losses', 'pools_and_convolutions', 'shorter']


def edited(folder: Path, text: str, name: str = TINY) -> Config:
    """Read a user's config: edits of one of mmdet's, without its pretrained backbone."""
    file = folder / 'mine.py'
    file.write_text(f"_base_ = 'mmdet::rtmdet/{name}'\n{text}")
    return Config.fromfile(file)


def with_imported_types(folder: Path, name: str = TINY) -> Path:
    """Write one of mmdet's configs in mmengine's new style, with classes as types and a base read by `read_base()`.

    mmdet's wheel has no config of this style.
    """
    config = Config.fromfile(MMDET_CONFIGS / name, format_python_code=False)
    config.default_scope = None
    text = config.pretty_text
    classes = dict(SyncBN=torch.nn.SyncBatchNorm, nms=nms)
    of_mmdet = [x for x in vars(registries).values() if isinstance(x, Registry) and x.scope == 'mmdet']
    for kind in set(re.findall(r"type='(\w+)'", text)) - {'Pretrained', *classes}:  # also ema_type and resize_type
        classes[kind] = next(filter(None, (registry.get(kind) for registry in of_mmdet)))
    for kind, cls in classes.items():
        text = re.sub(rf"type='{kind}'", f'type={cls.__name__}', text)
    imports = ''.join(f'from {cls.__module__} import {cls.__name__}\n' for cls in classes.values())
    (folder / 'mmdets.py').write_text(f'{imports}\n{text}')
    leaf = folder / 'mine.py'
    leaf.write_text(
        'from mmengine.config import read_base\n\nwith read_base():\n    from .mmdets import *\n\n'
        'model.bbox_head.update(dict(num_classes=3))\n'
    )
    return leaf


def build(config: Config) -> torch.nn.Module:
    """Build the network of a config for inference, without its pretrained backbone."""
    model = dict(config.model, data_preprocessor=None)
    model['backbone'] = dict(model['backbone'], init_cfg=None)
    return revert_sync_batchnorm(MODELS.build(model)).eval()


def assert_same_outputs(theirs: torch.nn.Module, ours: torch.nn.Module) -> None:
    assert list(theirs.state_dict()) == list(ours.state_dict())
    torch.manual_seed(0)
    vary_predictions(theirs)
    images = 30 * torch.randn(1, 3, 64, 64)  # new weights hardly react to less contrast
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        for expected, found in zip(*(tensors_of(model(images)) for model in (theirs, ours)), strict=True):
            spread = float(expected.std())  # small with new weights, so that a fixed tolerance would prove nothing
            assert spread > 1e-4
            torch.testing.assert_close(found, expected, rtol=0, atol=spread / 50)


def tensors_of(outputs: tuple) -> list[torch.Tensor]:
    """Return the maps of a head: tuples of one for each level, and for masks a tensor of prototypes."""
    return [level for kind in outputs for level in (kind if isinstance(kind, (list, tuple)) else [kind])]


def types_of(steps: list) -> list[str]:
    return [step['type'] for step in steps]


@pytest.mark.parametrize('size', ['tiny', 's', 'l'])
def test_mmdets_configs_become_the_shipped_ones(size):
    moved, shipped = Config.fromfile(MMDET_CONFIGS / TINY.replace('tiny', size)), CONFIGS / f'rtmdet_{size}.py'
    shipped = Config.fromfile(shipped)
    assert drop_in(moved).stays == []

    def transforms(pipeline):
        return [repr(TRANSFORMS.build(step)).replace('(114, 114, 114)', '114.0') for step in pipeline]

    stage2 = moved.custom_hooks[1].switch_pipeline
    for pipeline in (moved.train_pipeline, moved.train_dataloader.dataset.pipeline):
        assert transforms(pipeline) == transforms(shipped.train_pipeline)
    for pipeline in (moved.train_pipeline_stage2, stage2):
        assert transforms(pipeline) == transforms(shipped.train_pipeline_stage2)
    assert moved.test_dataloader.dataset.pipeline[1:] == shipped.test_dataloader.dataset.pipeline[1:]
    for key in ('sampler', 'collate_fn'):
        assert moved.train_dataloader[key] == shipped.train_dataloader[key]
    assert moved.train_cfg == shipped.train_cfg and moved.param_scheduler == shipped.param_scheduler
    assert moved.model_wrapper_cfg == shipped.model_wrapper_cfg
    for key in ('type', 'constructor', 'optimizer', 'paramwise_cfg'):
        assert moved.optim_wrapper[key] == shipped.optim_wrapper[key]
    switch = dict(shipped.default_hooks.pipeline_switch, switch_pipeline=stage2)
    hooks = {hook['type'] for hook in [*moved.default_hooks.values(), *moved.custom_hooks]}
    assert moved.custom_hooks[1] == switch
    assert hooks == {hook['type'] for hook in shipped.default_hooks.values()}
    assert moved.custom_hooks[0].to_dict().items() <= shipped.default_hooks.ema.to_dict().items()
    for part in ('data_preprocessor', 'backbone', 'neck', 'bbox_head'):
        theirs, ours = moved.model[part], dict(shipped.model[part])
        for name in ('norm_cfg', 'batch_augments', 'pad_size_divisor'):  # BN's defaults; mmdet pads in the pipeline
            theirs.pop(name, None), ours.pop(name, None)
        assert theirs == ours


@pytest.mark.parametrize(
    'name',
    [TINY, *(pytest.param(TINY.replace('tiny', size), marks=pytest.mark.slow) for size in 'smlx')]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            'rtmdet_x_p6_4xb8-300e_coco.py',
            'rtmdet_l_swin_b_4xb32-100e_coco.py',
            'rtmdet_l_swin_b_p6_4xb16-100e_coco.py',
        )
    ],
)
def test_mmdets_weights_and_outputs(name):
    config = Config.fromfile(MMDET_CONFIGS / name)
    theirs = build(config)
    drop_in(config)
    ours = build(config)
    assert type(ours.bbox_head).__name__ == 'RTMSepBNHead' and type(ours.neck).__name__ == 'RTMCSPNeXtPAFPN'
    assert_same_outputs(theirs, ours)


@pytest.mark.parametrize('name', EDITS)
def test_users_edits_stay_and_what_is_not_moved_is_named(name, tmp_path):
    text, stays = EDITS[name]
    config = edited(tmp_path, text)
    mine = config.to_dict()
    done = drop_in(config)
    assert done.stays == stays
    found = config.to_dict()
    assert found['custom_imports'] == dict(imports=['rtmdet_plugin'])
    for key in set(mine) - {'model', 'default_hooks', 'custom_hooks', 'param_scheduler', 'train_cfg', 'optim_wrapper'}:
        if 'pipeline' not in key and 'dataloader' not in key and 'evaluator' not in key:
            assert found[key] == mine[key]
    assert found['model']['test_cfg'] == mine['model']['test_cfg']
    assert found['test_pipeline'] == mine['test_pipeline'] and found['tta_pipeline'] == mine['tta_pipeline']


@pytest.mark.parametrize('name', MODEL_EDITS)
def test_edited_models_give_the_same_outputs(name, tmp_path):
    config = edited(tmp_path, EDITS[name][0])
    theirs = build(config)
    drop_in(config)
    assert_same_outputs(theirs, build(config))


def test_edits_of_the_schedule_are_moved_with_their_values(tmp_path):
    config = edited(tmp_path, EDITS['shorter'][0])
    drop_in(config)
    hook = config.custom_hooks[1]
    assert (hook.type, hook.num_last_epochs, hook.val_interval) == ('RTMPipelineSwitchHook', 5, 10)
    assert config.train_cfg.dynamic_intervals == [(280, 1)], 'it begins after the end of the run, so nothing is moved'
    assert config.model.bbox_head.norm_cfg == dict(type='BN', momentum=0.05)
    config = edited(tmp_path, EDITS['other_schedule'][0])
    drop_in(config)
    assert config.model_wrapper_cfg == dict(type='RTMDistributedDataParallel', find_unused_parameters=True)
    assert 'num_class_check' in config.default_hooks
    config = edited(tmp_path, EDITS['without_augmentation'][0])
    drop_in(config)
    assert config.train_cfg == dict(type='RTMEpochBasedTrainLoop', max_epochs=20)
    assert config.train_dataloader.collate_fn == dict(type='rtm_collate')
    assert types_of(config.train_pipeline) == [
        'RTMLoadImageAndAnnotations', 'Resize', 'RTMRandomFlip', 'Pad', 'RTMPackDetInputs',
    ]  # fmt: skip


def test_datasets_within_wrappers(tmp_path):
    config = edited(tmp_path, EDITS['several_sizes'][0])
    drop_in(config)
    first, second = config.train_dataloader.dataset.datasets
    assert (first.type, second.dataset.type) == ('RTMCocoDataset', 'mmdet.RTMCocoDataset')


@pytest.mark.parametrize('dumped', [False, True])
def test_imported_types_become_names(tmp_path, dumped):
    """A config with `read_base()`, or a dump of it, is moved like the same one with `_base_`."""
    config = Config.fromfile(with_imported_types(tmp_path), format_python_code=False)
    assert config.model.bbox_head.type.__name__ == 'RTMDetSepBNHead' and config.default_scope is None
    theirs = build(copy.deepcopy(config))  # building writes into the config
    if dumped:
        config.dump(tmp_path / 'dumped.py')
        config = Config.fromfile(tmp_path / 'dumped.py', format_python_code=False)
        assert config.model.bbox_head.type == 'mmdet.models.dense_heads.rtmdet_head.RTMDetSepBNHead'
    done = drop_in(config)
    (tmp_path / 'old').mkdir()
    expected = edited(tmp_path / 'old', 'model = dict(bbox_head=dict(num_classes=3))')
    assert done.stays == drop_in(expected).stays == []
    assert done.moved[0].startswith("default_scope: 'mmdet'")
    found, expected = (swaps._plain(moved.to_dict()) for moved in (config, expected))  # without `_scope_`
    for name in ('custom_imports', 'model', 'train_dataloader'):  # for short messages
        assert found[name] == expected[name]
    assert found.pop('dataset_type').endswith('CocoDataset') and expected.pop('dataset_type')
    assert found == expected
    assert_same_outputs(theirs, build(config))


def test_imported_types_of_other_packages_stay(tmp_path):
    """Their registration may need the import."""
    leaf = with_imported_types(tmp_path)
    leaf.write_text(
        leaf.read_text()
        + 'from http.client import HTTPConnection, responses\n'
        + 'model.test_cfg.update(dict(constant=responses))\n'
        + 'custom_hooks.append(dict(type=HTTPConnection))\n'
        + 'model.neck.update(dict(type=HTTPConnection))\n'
    )
    config = Config.fromfile(leaf)
    done = drop_in(config)
    assert done.stays == ['model.neck: HTTPConnection stays; there is no counterpart']
    assert config.custom_hooks[2].type.__name__ == 'HTTPConnection' and config.model.test_cfg.constant[404]
    assert config.to_dict()['custom_hooks'][2] == dict(type='http.client.HTTPConnection')

    leaf.write_text(
        leaf.read_text() + 'from mmcv.transforms import Resize\ntest_pipeline[1].update(dict(type=Resize))\n'
    )
    config = Config.fromfile(leaf)
    before = config.to_dict()
    with pytest.raises(
        RefusedError, match="type must be the Resize that mmdet finds .* got mmcv.transforms.processing's"
    ):
        drop_in(config)
    assert config.to_dict() == before


def test_mmdets_default_norms_are_written_out(tmp_path):
    """They aren't those of our classes."""
    config = edited(tmp_path, '')
    for part in ('backbone', 'neck', 'bbox_head'):
        del config.model[part]['norm_cfg']
    theirs = build(config)
    drop_in(config)
    ours = build(config)
    assert (
        ours.backbone.stem[0].bn.eps == ours.neck.out_convs[0].bn.eps == ours.bbox_head.cls_convs[0][0].bn.eps == 1e-3
    )
    assert_same_outputs(theirs, ours)


def test_in_a_config_it_does_the_same_and_warns(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr('rtmdet_plugin.config.drop_in.print_log', lambda line, **kwargs: logged.append(line))
    edited(tmp_path, EDITS['own_transform'][0])
    (tmp_path / 'ours.py').write_text(
        "_base_ = 'mine.py'\n\nfrom rtmdet_plugin import drop_in\n\ndrop_in(_base_)\n"
        'model = dict(bbox_head=dict(num_classes=7))\n'
    )
    found, expected = Config.fromfile(tmp_path / 'ours.py'), Config.fromfile(tmp_path / 'mine.py')
    stays = drop_in(expected).stays
    assert len(stays) == 2 and logged == [f'drop_in: {line}' for line in stays]
    expected.model.bbox_head.num_classes = 7
    assert found.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(model=None), "model.bbox_head must be mmdet's RTMDetSepBNHead or RTMDetInsSepBNHead, got None"),
        ({'model.bbox_head.type': 'mmrotate.RotatedRTMDetSepBNHead'}, 'got RotatedRTMDetSepBNHead; no other'),
        ({'model.bbox_head.type': 'RTMSepBNHead'}, 'the config has our parts already'),
        ({'model.bbox_head.type': 'RTMInsSepBNHead'}, 'the config has our parts already'),
        (dict(default_scope='mmyolo'), "default_scope must be 'mmdet', got 'mmyolo'"),
        ({'model.bbox_head.anchor_generator': None}, 'model.bbox_head.anchor_generator.strides'),
    ],
)
def test_configs_that_are_refused_stay_as_they_are(change, message, tmp_path):
    config = edited(tmp_path, '')
    config.merge_from_dict(change)
    before = config.to_dict()
    with pytest.raises(RefusedError, match=message):
        drop_in(config)
    assert config.to_dict() == before


def test_mmdets_other_configs_are_refused():
    with pytest.raises(RefusedError, match='no other detector can be moved'):
        drop_in(Config.fromfile(MMDET_CONFIGS / 'rtmdet_tta.py'))


def test_mmdets_config_with_masks_becomes_ours():
    moved, shipped = (Config.fromfile(f) for f in (MMDET_CONFIGS / INS_TINY, CONFIGS / 'rtmdet_ins_tiny.py'))
    theirs = build(copy.deepcopy(moved))
    assert drop_in(moved).stays == []
    head, ours = (dict(config.model.bbox_head) for config in (moved, shipped))
    assert head.pop('norm_cfg').type == 'BN' and ours.pop('norm_cfg') and head == ours
    steps = [step for step in types_of(moved.train_pipeline) if step != 'FilterAnnotations']
    assert steps == types_of(shipped.train_pipeline) and moved.train_pipeline[0]['with_mask']
    stage2 = types_of(moved.custom_hooks[1].switch_pipeline)
    assert (stage2[:2], stage2[-1]) == (['RTMLoadImageAndAnnotations', 'RTMRandomResizeCrop'], 'RTMPackDetInputs')
    assert moved.val_evaluator.type == 'RTMCocoMetric' and moved.val_evaluator.metric == ['bbox', 'segm']
    assert moved.train_dataloader.collate_fn == dict(type='rtm_collate')
    assert_same_outputs(theirs, build(moved))


@pytest.mark.parametrize(
    ('loss', 'reason'),
    [
        ('dict(naive_dice=True)', 'RTMDiceLoss has no naive_dice=True'),
        ("dict(_delete_=True, type='CrossEntropyLoss')", 'RTMInsSepBNHead has no loss_mask=CrossEntropyLoss'),
    ],
)
def test_a_head_with_another_mask_loss_stays_with_the_masks_that_it_needs(loss, reason, tmp_path):
    config = edited(tmp_path, f'model = dict(bbox_head=dict(loss_mask={loss}))', INS_TINY)
    stays = drop_in(config).stays
    assert stays[0] == f'model.bbox_head: RTMDetInsSepBNHead stays; {reason}'
    assert 'PackDetInputs: RTMPackDetInputs draws the masks for RTMInsSepBNHead' in stays[1] and len(stays) == 2
    assert config.model.bbox_head.type == 'RTMDetInsSepBNHead' and config.train_pipeline[-1]['type'] == 'PackDetInputs'


def test_unknown_arguments_and_pipelines_are_named(tmp_path):
    config = edited(tmp_path, "model = dict(bbox_head=dict(num_class=3), neck=dict(upsampling='nearest'))")
    config.train_pipeline_stage2 = [dict(scale=(640, 640))]
    done = drop_in(config)
    assert done.stays == [
        "model.neck: CSPNeXtPAFPN stays; RTMCSPNeXtPAFPN has no upsampling='nearest'",
        'model.bbox_head: RTMDetSepBNHead stays; RTMSepBNHead has no num_class=3',
        'train_pipeline_stage2: the pipeline stays; it must be a list of steps such as dict(type=...)',
    ]
    assert config.model.bbox_head.num_class == 3 and config.train_pipeline_stage2 == [dict(scale=(640, 640))]


def arguments(cls: type) -> dict:
    """Arguments of a class and of its bases, if it passes `**kwargs` on to them, with their defaults."""
    found = {}
    for base in cls.__mro__:
        if '__init__' in vars(base):
            parameters = inspect.signature(base.__init__).parameters
            found = {**{name: p.default for name, p in list(parameters.items())[1:]}, **found}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
    return {name: default for name, default in found.items() if name not in ('args', 'kwargs')}


@pytest.mark.parametrize('name', [name for table in swaps.TABLES for name, swap in table.items() if swap.keeps])
def test_the_tables_cover_all_arguments(name):
    swap = next(table[name] for table in swaps.TABLES if name in table)
    theirs, ours = (
        arguments(next(cls for registry in (MODELS, TASK_UTILS, TRANSFORMS, HOOKS) if (cls := registry.get(kind))))
        for kind in (name, swap.ours)
    )
    kept = set(swap.keeps.split()) - {'priority'}  # the Runner's
    assert kept <= set(theirs) & set(ours)
    assert set(theirs) == kept | set(swap.built_in)
    differ = {arg for arg in kept if repr(theirs[arg]) != repr(ours[arg])}
    # Of these, RTMDet's configs set all, or the values mean the same: SiLU is Swish, and inplace or not.
    differ -= {'act_cfg', 'init_cfg', 'anchor_generator', 'bbox_coder', 'loss_cls', 'loss_bbox', 'loss_mask', 'prob'}
    assert differ <= set(swap.defaults), f'the defaults of {differ} differ'
    for arg, default in swap.defaults.items():
        assert default == theirs[arg]
