"""Step 2 of 3 of the augmentation: mosaic and MixUp in all 300 epochs. Reported: box AP 41.9.

Step 3, the last 20 epochs with only large scale jitter, is configs/rtmdet_s.py. Reported in this study: box AP 43.9.
"""

_base_ = '../../configs/rtmdet_s.py'

default_hooks = dict(pipeline_switch=dict(num_last_epochs=0))
