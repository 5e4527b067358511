"""mmdet's types with their counterparts here: which arguments carry over, and which values are built in.

A part is replaced only if its counterpart does the same with these arguments; otherwise it stays, with the reason.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .pipelines import step_name

ANY = object()
"""Marks an argument that has no effect in RTMDet, whatever its value."""

_NORM = dict(type='BN', momentum=0.03, eps=0.001)
_NETWORK = 'use_depthwise expand_ratio norm_cfg act_cfg init_cfg '


class Swap(NamedTuple):
    """The counterpart of one of mmdet's types."""

    ours: str
    """Type in this package."""
    keeps: str | None = None
    """Names of the arguments that carry over unchanged; None if the counterpart takes all of them."""
    built_in: dict[str, Any] = {}
    """Arguments that the counterpart doesn't have, with the value that it implements."""
    defaults: dict[str, Any] = {}
    """mmdet's defaults that differ from the counterpart's; written into the config if it doesn't set them."""


MODEL = {
    'CSPNeXt': Swap(
        'RTMCSPNeXt',
        _NETWORK
        + 'arch deepen_factor widen_factor out_indices frozen_stages arch_ovewrite channel_attention norm_eval',
        dict(spp_kernel_sizes=(5, 9, 13), conv_cfg=None),
        dict(norm_cfg=_NORM),
    ),
    'CSPNeXtPAFPN': Swap(
        'RTMCSPNeXtPAFPN',
        _NETWORK + 'in_channels out_channels num_csp_blocks',
        dict(upsample_cfg=dict(scale_factor=2, mode='nearest'), conv_cfg=None),
        dict(norm_cfg=_NORM),
    ),
    'RTMDetSepBNHead': Swap(
        'RTMSepBNHead',
        'num_classes in_channels feat_channels stacked_convs share_conv use_depthwise exp_on_reg pred_kernel_size '
        'anchor_generator bbox_coder loss_cls loss_bbox norm_cfg act_cfg train_cfg test_cfg init_cfg',
        dict(with_objectness=False, conv_cfg=None, reg_decoded_bbox=ANY, loss_centerness=ANY),
        dict(norm_cfg=_NORM, stacked_convs=4, with_objectness=True),
    ),
    'RTMDetInsSepBNHead': Swap(
        'RTMInsSepBNHead',
        'num_classes in_channels feat_channels stacked_convs share_conv pred_kernel_size anchor_generator bbox_coder '
        'loss_cls loss_bbox loss_mask norm_cfg act_cfg train_cfg test_cfg init_cfg',
        dict(
            with_objectness=False,
            conv_cfg=None,
            num_prototypes=8,
            dyconv_channels=8,
            num_dyconvs=3,
            mask_loss_stride=4,
            reg_decoded_bbox=ANY,
            loss_centerness=ANY,
        ),
        dict(norm_cfg=dict(type='BN', requires_grad=True), stacked_convs=4),
    ),  # fmt: skip
    'DetDataPreprocessor': Swap('RTMDetDataPreprocessor'),
    'QualityFocalLoss': Swap(
        'RTMQualityFocalLoss', 'beta loss_weight', dict(use_sigmoid=True, reduction='mean', activated=False)
    ),
    'GIoULoss': Swap('RTMGIoULoss', 'loss_weight', dict(eps=1e-6, reduction='mean')),
    # The head divides the sum over the masks by their number.
    'DiceLoss': Swap(
        'RTMDiceLoss',
        'loss_weight eps',
        dict(use_sigmoid=True, activate=True, reduction='mean', naive_dice=False),
        dict(loss_weight=1.0, eps=1e-3),
    ),
    'DynamicSoftLabelAssigner': Swap(
        'RTMDynamicSoftLabelAssigner',
        'soft_center_radius topk iou_weight',
        dict(iou_calculator=dict(type='BboxOverlaps2D')),
    ),
}
TRANSFORMS = {
    'CachedMosaic': Swap('RTMCachedMosaic'),
    'CachedMixUp': Swap('RTMCachedMixUp'),
    'YOLOXHSVRandomAug': Swap('RTMYOLOXHSVRandomAug'),
    'RandomFlip': Swap('RTMRandomFlip', 'prob', dict(direction='horizontal', swap_seg_labels=None)),
    'PackDetInputs': Swap('RTMPackDetInputs'),
}
DATASETS = {'CocoDataset': Swap('RTMCocoDataset')}
METRICS = {'CocoMetric': Swap('RTMCocoMetric')}
SAMPLERS = {'DefaultSampler': Swap('RTMDefaultSampler')}
LOOPS = {'EpochBasedTrainLoop': Swap('RTMEpochBasedTrainLoop')}
HOOKS = {
    'CheckpointHook': Swap('RTMCheckpointHook'),
    'RuntimeInfoHook': Swap('RTMRuntimeInfoHook'),
    'NumClassCheckHook': Swap('RTMNumClassCheckHook'),
    # Every step is checked, at no cost.
    'CheckInvalidLossHook': Swap('RTMCheckInvalidLossHook', 'priority', dict(interval=ANY)),
}
TABLES = (MODEL, TRANSFORMS, DATASETS, METRICS, SAMPLERS, LOOPS, HOOKS)


def obstacle(part: dict, swap: Swap) -> str:
    """Return the arguments of a part that its counterpart doesn't implement, as text; empty if there are none."""
    if swap.keeps is None:
        return ''
    arguments = {**swap.defaults, **part}
    wrong = [
        f'{name}={value!r}'
        for name, value in arguments.items()
        if name not in ('type', '_scope_', *swap.keeps.split()) and not _is_built_in(swap, name, value)
    ]
    return f'{swap.ours} has no {", ".join(wrong)}' if wrong else ''


def apply(part: dict, swap: Swap) -> str:
    """Turn a part into its counterpart, in place; `obstacle` must be empty.

    Returns:
        The change, such as `GIoULoss -> RTMGIoULoss (eps=1e-06 is built in)`.
    """
    before = step_name(part)
    scoped = isinstance(part['type'], str) and part['type'] == f'mmdet.{before}'
    part['type'] = f'mmdet.{swap.ours}' if scoped else swap.ours
    removed = [f'{name}={part.pop(name)!r}' for name in swap.built_in if name in part]
    for name, value in swap.defaults.items():
        if name not in swap.built_in:
            part.setdefault(name, value)
    note = f' ({", ".join(removed)} is built in)' if removed else ''
    return f'{before} -> {swap.ours}{note}'


def _is_built_in(swap: Swap, name: str, value: object) -> bool:
    return name in swap.built_in and (swap.built_in[name] is ANY or _plain(value) == _plain(swap.built_in[name]))


def _plain(value: object) -> object:
    """Return a value with lists as tuples, and without the scopes that mmengine adds, so that equals compare equal."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return value
