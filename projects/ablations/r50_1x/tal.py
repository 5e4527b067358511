"""TAL, the assigner of TOOD. Reported for TOOD without its task-aligned head: box AP 40.7."""

_base_ = 'dynamic_soft_label.py'

model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='RTMTaskAlignedAssigner', topk=13)))
