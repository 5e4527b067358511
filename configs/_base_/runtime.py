"""Settings that every run needs in addition to model, data and schedule."""

custom_imports = dict(imports=['rtmdet_plugin'], allow_failed_imports=False)
default_scope = 'mmdet'

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Used with `--launcher`; without CUDA, gloo is used instead.
    dist_cfg=dict(backend='nccl'),
)
# Used with `--launcher`: SyncBN on GPUs, plain BN on CPUs.
model_wrapper_cfg = dict(type='RTMDistributedDataParallel')

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'

load_from = None
resume = False
