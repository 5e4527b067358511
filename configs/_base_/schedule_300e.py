"""300 epochs: warm-up, constant, cosine over the second half; the last 20 epochs without mosaic and MixUp.

To change the length, set only `max_epochs`, as in `--cfg-options train_cfg.max_epochs=50`: the cosine half, the
switch to stage 2 and the validation in stage 2 follow. The warm-up stays at 1,000 steps; if the run isn't much
longer, shorten it with `param_scheduler.0.end=100`.
"""

train_cfg = dict(type='RTMEpochBasedTrainLoop', max_epochs=300, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='RTMOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=0.004, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)
# lr 0.004 belongs to a batch of 8 GPUs x 32. `--auto-scale-lr` of mmdet's train.py adapts it to yours.
auto_scale_lr = dict(enable=False, base_batch_size=256)

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(type='RTMFlatCosineLR', eta_min_ratio=0.05, by_epoch=False),
]

# All hooks are here by name, so that a config or an option such as
# `--cfg-options default_hooks.pipeline_switch.num_last_epochs=10` can change one setting, and `custom_hooks` stays
# empty for your own. To remove one of mmengine's own hooks, set it to None. To remove the EMA or an RTM hook, copy the
# dictionary without it in your own config:
#
# default_hooks = dict(_delete_=True, **{k: v for k, v in _base_.default_hooks.items() if k != 'ema'})
default_hooks = dict(
    runtime_info=dict(type='RTMRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Refuses to replace the checkpoints of an earlier run, unless `allow_overwrite=True`.
    checkpoint=dict(type='RTMCheckpointHook', interval=10, max_keep_ckpts=3, save_best='coco/bbox_mAP'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
    num_class_check=dict(type='RTMNumClassCheckHook'),
    # A step whose loss or gradient isn't finite is skipped; this number of skipped steps in a row ends the run.
    check_invalid_loss=dict(type='RTMCheckInvalidLossHook', max_consecutive=10),
    bad_samples=dict(type='RTMBadSampleHook'),  # its settings are the dataset's: see coco_detection.py
    # Before the other hooks of its kind (49 of 50), so that they see the averaged weights.
    ema=dict(
        type='EMAHook',
        ema_type='RTMExpMomentumEMA',
        momentum=0.0002,
        gamma=2000,
        update_buffers=True,
        strict_load=False,  # a checkpoint with a head for other classes may be loaded; `load_report` reports it
        priority=49,
    ),
    load_report=dict(type='RTMLoadReportHook'),
    # `switch_pipeline` is set in rtmdet_l.py, which knows the pipelines.
    pipeline_switch=dict(type='RTMPipelineSwitchHook', num_last_epochs=20, val_interval=1),
    # On a CPU: the fastest order of weights in memory, threads for the cores that other programs leave free, and the
    # memory of a step is kept for the next one.
    channels_last=dict(type='RTMChannelsLastHook', only_on_cpu=True),
    cpu_threads=dict(type='RTMCPUThreadsHook'),
    kept_memory=dict(type='RTMKeptMemoryHook'),
    process_watch=dict(type='RTMProcessWatchHook'),
    run_check=dict(type='RTMRunCheckHook'),
    graceful_stop=dict(type='RTMGracefulStopHook'),
)
