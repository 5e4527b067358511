"""RTMDet-l with mmdet's Swin-B as its backbone, 640 px, COCO.

    mim train mmdet configs/rtmdet_l_swin_b.py --launcher pytorch --gpus 4

Reported for this recipe (mmdet, 4 GPUs x 32 images): box AP 52.4 on val2017. 113.06 M parameters, 194.33 GFLOPs
(multiply-adds, attention and linear layers included).

Training starts from Microsoft's ImageNet-22k backbone at 384 px, which is downloaded once.
"""

_base_ = 'rtmdet_l.py'

# Without `_delete_`, momentum and eps of the batch norms would stay, and group norms have no momentum.
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],  # RGB, as the backbone was pretrained
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        pretrain_img_size=384,
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        drop_path_rate=0.3,
        out_indices=(1, 2, 3),
        with_cp=True,  # activations are computed again in the backward pass, which saves memory
        convert_weights=True,  # the checkpoint has the names of Microsoft's code
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'
            'swin_base_patch4_window12_384_22k.pth',
        ),
    ),
    neck=dict(norm_cfg=dict(_delete_=True, type='GN', num_groups=32)),
    bbox_head=dict(norm_cfg=dict(_delete_=True, type='GN', num_groups=32)),
)

train_cfg = dict(max_epochs=100)
optim_wrapper = dict(optimizer=dict(lr=0.001))
auto_scale_lr = dict(base_batch_size=128)
default_hooks = dict(pipeline_switch=dict(num_last_epochs=10))
