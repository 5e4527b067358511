"""RTMDet-nano, 320 px, persons only; OpenMMLab's published person weights fit this config.

    mim train mmdet configs/rtmdet_nano_person.py --launcher pytorch --gpus 8
    mim test mmdet configs/rtmdet_nano_person.py --checkpoint rtmdet_nano_person.pth

994,423 parameters. With the published weights, box AP 26.4 and AP50 50.3 were measured on the persons of 50
images of val2017 (NMS IoU 0.6).
"""

_base_ = 'rtmdet_nano.py'

model = dict(bbox_head=dict(num_classes=1))

metainfo = dict(classes=('person',))
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
