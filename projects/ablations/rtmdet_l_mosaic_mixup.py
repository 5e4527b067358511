"""Step 2 of 3 of the augmentation: mosaic and MixUp in all 300 epochs. Reported: box AP 49.8.

Step 3, the last 20 epochs with only large scale jitter, is configs/rtmdet_l.py. Reported in this study: box AP 51.3.
"""

_base_ = '../../configs/rtmdet_l.py'

default_hooks = dict(pipeline_switch=dict(num_last_epochs=0))
