"""The student of compare.py, which learns from the weights of the demo until stage 2.

python projects/distillation/compare.py
"""

_base_ = 'rtmdet_demo_narrow.py'

default_hooks = dict(
    distillation=dict(
        type='RTMDistillationHook',
        teacher_config='projects/demo/rtmdet_demo.py',
        teacher_ckpt='projects/demo/rtmdet_demo.safetensors',
    ),
)
