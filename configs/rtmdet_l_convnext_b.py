"""RTMDet-l with mmpretrain's ConvNeXt-B as its backbone, 640 px, COCO.

    pip install mmpretrain==1.2.0
    mim train mmdet configs/rtmdet_l_convnext_b.py --launcher pytorch --gpus 4

mmpretrain imports torchvision, which must belong to the installed PyTorch.

Reported for this recipe (mmdet, 4 GPUs x 32 images): box AP 53.1 on val2017. 113.74 M parameters, 171.16 GFLOPs
(multiply-adds, linear layers included).

Training starts from a backbone of ImageNet-21k, fine-tuned on ImageNet-1k at 384 px, which is downloaded once.
"""

_base_ = 'rtmdet_l_swin_b.py'  # for its input, norms and schedule

custom_imports = dict(imports=['rtmdet_plugin', 'mmpretrain.models'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch='base',
        out_indices=[1, 2, 3],
        drop_path_rate=0.7,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone.',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/convnext/'
            'convnext-base_in21k-pre-3rdparty_in1k-384px_20221219-4570f792.pth',
        ),
    ),
)

# The learning rate of a layer is 0.8 times that of the next one.
optim_wrapper = dict(
    constructor='LearningRateDecayOptimizerConstructor',
    paramwise_cfg=dict(_delete_=True, decay_rate=0.8, decay_type='layer_wise', num_layers=12),
)
