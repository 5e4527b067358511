"""ATSS. Reported: box AP 39.2."""

_base_ = 'dynamic_soft_label.py'

model = dict(train_cfg=dict(assigner=dict(_delete_=True, type='RTMATSSAssigner', topk=9)))
