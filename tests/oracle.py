"""mmdet's own modules, built from our configs: the reference that the tests compare with."""

import copy
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
init_default_scope('mmdet')

MMDET_NAMES = dict(
    RTMCSPNeXt='CSPNeXt',
    RTMCSPNeXtPAFPN='CSPNeXtPAFPN',
    RTMSepBNHead='RTMDetSepBNHead',
    RTMDynamicSoftLabelAssigner='DynamicSoftLabelAssigner',
    RTMQualityFocalLoss='QualityFocalLoss',
    RTMGIoULoss='GIoULoss',
    RTMInsSepBNHead='RTMDetInsSepBNHead',
    RTMDiceLoss='DiceLoss',
)
NORM = dict(type='BN', momentum=0.1, eps=1e-5)


def to_mmdet(cfg):
    """Return the config with mmdet's types; arguments that only our types have remain, and fail in mmdet."""
    if not isinstance(cfg, dict):
        return cfg
    cfg = {key: to_mmdet(value) for key, value in cfg.items()}
    if 'type' in cfg:
        cfg['type'] = MMDET_NAMES.get(cfg['type'], cfg['type'])
    if cfg.get('type') == 'QualityFocalLoss':
        cfg['use_sigmoid'] = True  # mmdet's head reads it from the config
    return cfg


def model_cfg(
    deepen: float,
    widen: float,
    channels: list[int],
    out_channels: int,
    blocks: int,
    *,
    exp_on_reg: bool,
    nano: bool = False,
    num_classes: int = 80,
) -> dict:
    """Return the config of an RTMDet of any size, independent of configs/, so that tests find mistakes there."""
    return dict(
        type='RTMDet',
        data_preprocessor=dict(type='DetDataPreprocessor'),
        backbone=dict(type='RTMCSPNeXt', deepen_factor=deepen, widen_factor=widen, use_depthwise=nano, norm_cfg=NORM),
        neck=dict(
            type='RTMCSPNeXtPAFPN',
            in_channels=channels,
            out_channels=out_channels,
            num_csp_blocks=blocks,
            use_depthwise=nano,
            norm_cfg=NORM,
        ),
        bbox_head=dict(
            type='RTMSepBNHead',
            num_classes=num_classes,
            in_channels=out_channels,
            feat_channels=out_channels,
            stacked_convs=2,
            with_objectness=False,
            exp_on_reg=exp_on_reg,
            share_conv=not nano,
            use_depthwise=nano,
            pred_kernel_size=1,
            norm_cfg=NORM,
            act_cfg=dict(type='SiLU', inplace=True),
            anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
            bbox_coder=dict(type='DistancePointBBoxCoder'),
            loss_cls=dict(type='RTMQualityFocalLoss', beta=2.0, loss_weight=1.0),
            loss_bbox=dict(type='RTMGIoULoss', loss_weight=2.0),
        ),
        train_cfg=dict(
            assigner=dict(type='RTMDynamicSoftLabelAssigner', topk=13), allowed_border=-1, pos_weight=-1, debug=False
        ),
        test_cfg=dict(
            nms_pre=30000, min_bbox_size=0, score_thr=0.001, nms=dict(type='nms', iou_threshold=0.65), max_per_img=300
        ),
        use_syncbn=False,
    )


SIZES = dict(
    nano=model_cfg(0.33, 0.25, [64, 128, 256], 64, 1, exp_on_reg=False, nano=True),
    tiny=model_cfg(0.167, 0.375, [96, 192, 384], 96, 1, exp_on_reg=False),
    s=model_cfg(0.33, 0.5, [128, 256, 512], 128, 1, exp_on_reg=False),
    m=model_cfg(0.67, 0.75, [192, 384, 768], 192, 2, exp_on_reg=True),
    l=model_cfg(1.0, 1.0, [256, 512, 1024], 256, 3, exp_on_reg=True),
    x=model_cfg(1.33, 1.25, [320, 640, 1280], 320, 4, exp_on_reg=True),
)


def ins_cfg(cfg: dict) -> dict:
    """Return the config of an RTMDet-Ins from that of the RTMDet of its size."""
    kept = {k: v for k, v in cfg['bbox_head'].items() if k not in ('exp_on_reg', 'use_depthwise', 'with_objectness')}
    loss_mask = dict(type='RTMDiceLoss', loss_weight=2.0, eps=5e-6)
    test_cfg = dict(score_thr=0.05, nms_pre=1000, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)
    return dict(
        cfg,
        bbox_head=dict(kept, type='RTMInsSepBNHead', loss_mask=loss_mask),
        test_cfg=dict(test_cfg, min_bbox_size=0, mask_thr_binary=0.5),
    )


INS_SIZES = {size: ins_cfg(cfg) for size, cfg in SIZES.items() if size != 'nano'}


def diamond_kernel(radius: float) -> torch.Tensor:
    """Return the kernel (169,) of a mask with the logits radius - |x| - |y|, in units of 8 strides of its prior."""
    first, third = torch.zeros(8, 10), torch.zeros(8)
    first[:4, :2] = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    third[:4] = -1
    return torch.cat([first.flatten(), torch.eye(8).flatten(), third, torch.zeros(16), torch.tensor([radius])])


def vary_predictions(model: nn.Module, cls_std: float = 0.3, cls_bias: float = -2.0, norm_std: float = 0.0) -> None:
    """Set random weights and norm statistics of a new model, so that boxes and scores differ between priors."""
    head = model.bbox_head
    with torch.no_grad():
        for layer in head.rtm_cls:
            layer.weight.normal_(std=cls_std)
            layer.bias.fill_(cls_bias)
        for layer in head.rtm_reg:
            layer.weight.normal_(std=0.1)
            layer.bias.fill_(0.7 if getattr(head, 'exp_on_reg', False) else 2.0)  # boxes of about four cells
        for layer in getattr(head, 'rtm_kernel', ()):
            layer.weight.normal_(std=0.05)
            layer.bias.copy_(diamond_kernel(0.4))
        if hasattr(head, 'mask_head'):
            for module in (head.mask_head.fusion_conv, head.mask_head.projection):
                module.weight.normal_(std=0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(std=norm_std)


def build_pair(size: str, sizes: dict[str, dict] = SIZES) -> tuple[nn.Module, nn.Module]:
    """Build our model and mmdet's with the same weights, with which boxes and scores differ between priors."""
    torch.manual_seed(0)
    ours = MODELS.build(ConfigDict(copy.deepcopy(sizes[size])))
    mmdets = MODELS.build(ConfigDict(to_mmdet(sizes[size])))
    ours.init_weights()
    vary_predictions(ours)
    mmdets.load_state_dict(ours.state_dict())
    return ours, mmdets


def random_gt(generator: torch.Generator, num_images: int, size: int, num_classes: int = 80) -> list[InstanceData]:
    """Return boxes from 8 px to the image size, up to 12 per image, none in the first image."""
    images = []
    for i in range(num_images):
        n = 0 if i == 0 else int(torch.randint(1, 13, (), generator=generator))
        center = torch.rand(n, 2, generator=generator) * size
        half = (torch.rand(n, 2, generator=generator) * size / 2).clamp(min=4)
        boxes = torch.cat((center - half, center + half), dim=1).clamp(0, size)
        labels = torch.randint(0, num_classes, (n,), generator=generator)
        images.append(InstanceData(bboxes=boxes, labels=labels))
    return images


def build_random(size: str, changes: dict | None = None) -> nn.Module:
    """Build a shipped model, with changes, and random weights and norm statistics, so that boxes differ."""
    torch.manual_seed(0)
    config = Config.fromfile(ROOT / 'configs' / f'rtmdet_{size}.py')
    config.model.backbone.init_cfg = None
    config.merge_from_dict(changes or {})
    model = MODELS.build(config.model)
    vary_predictions(model, norm_std=0.1)
    model.cfg = config
    return model.eval()


def build_small_ins() -> nn.Module:
    """Build an RTMDet-Ins with few channels and two classes, whose random weights find objects in noise."""
    changes = {
        'model.backbone.widen_factor': 0.125,
        'model.neck': dict(in_channels=[32, 64, 128], out_channels=16),
        'model.bbox_head': dict(in_channels=16, feat_channels=16, num_classes=2),
    }
    model = build_random('ins_tiny', changes)
    head = model.bbox_head
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.weight.mul_(0.5)  # small activations, with which random layers hardly amplify differences
        for layers, factor in ((head.rtm_cls, 10), (head.rtm_reg, 20), (head.rtm_kernel, 4)):
            for layer in layers:
                layer.weight.mul_(factor)
        model.train()(torch.randn(8, 3, 64, 96))  # sets the norms' statistics, so that activations don't fade
    return model.eval()
