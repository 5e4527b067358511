"""Configs and checkpoints name registered types, never modules: each of these names is a promise to those in use."""

import pytest
from mmdet import registry

import rtmdet_plugin

NAMES = {
    'MODELS': [
        'RTMCSPNeXt', 'RTMCSPNeXtPAFPN', 'RTMSepBNHead', 'RTMDetDataPreprocessor', 'RTMQualityFocalLoss',
        'RTMGIoULoss', 'RTMExpMomentumEMA',
    ],
    'TASK_UTILS': [
        'RTMDynamicSoftLabelAssigner', 'RTMSimOTAAssigner', 'RTMTaskAlignedAssigner', 'RTMATSSAssigner',
        'RTMHardCostAssigner',
    ],
    'TRANSFORMS': [
        'RTMCachedMosaic', 'RTMCachedMixUp', 'RTMCachedMosaicResizeCrop', 'RTMLoadImageAndAnnotations',
        'RTMLoadImageFromFile', 'RTMPackDetInputs', 'RTMRandomFlip', 'RTMRandomResizeCrop', 'RTMYOLOXHSVRandomAug',
    ],
    'DATASETS': ['RTMCocoDataset'],
    'METRICS': ['RTMCocoMetric'],
    'DATA_SAMPLERS': ['RTMDefaultSampler'],
    'HOOKS': [
        'RTMBadSampleHook', 'RTMChannelsLastHook', 'RTMCheckInvalidLossHook', 'RTMCheckpointHook',
        'RTMDistillationHook', 'RTMGracefulStopHook', 'RTMKeepClassesHook', 'RTMKeptMemoryHook', 'RTMLoadReportHook',
        'RTMNumClassCheckHook', 'RTMPipelineSwitchHook', 'RTMProcessWatchHook', 'RTMRunCheckHook', 'RTMRuntimeInfoHook',
        'RTMUnfoldNormHook',
    ],
    'LOOPS': ['RTMEpochBasedTrainLoop'],
    'MODEL_WRAPPERS': ['RTMDistributedDataParallel'],
    'OPTIM_WRAPPERS': ['RTMBFloat16OptimWrapper'],
    'OPTIM_WRAPPER_CONSTRUCTORS': ['RTMOptimWrapperConstructor'],
    'PARAM_SCHEDULERS': ['RTMFlatCosineLR'],
    'VISBACKENDS': ['RTMMLflowVisBackend'],
}  # fmt: skip


@pytest.mark.parametrize('kind', NAMES)
def test_every_name_is_registered(kind):
    found = getattr(registry, kind)
    assert [name for name in NAMES[kind] if found.get(name) is None] == []


def test_names_for_users():
    for name in rtmdet_plugin.__all__:
        assert getattr(rtmdet_plugin, name) is not None
    with pytest.raises(AttributeError, match='NoSuchName'):
        rtmdet_plugin.NoSuchName  # noqa: B018
