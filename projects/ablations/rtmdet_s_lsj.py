"""Step 1 of 3 of the augmentation: large scale jitter and crop in all 300 epochs. Reported: box AP 42.3."""

_base_ = '../../configs/rtmdet_s.py'

train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline_stage2))
default_hooks = dict(pipeline_switch=dict(num_last_epochs=0))
