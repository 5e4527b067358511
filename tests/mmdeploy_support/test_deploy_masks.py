"""RTMDet-Ins through mmdeploy: boxes and masks of each backend that runs here are PyTorch's."""

import importlib

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from oracle import vary_predictions

pytest.importorskip('mmdeploy', reason='mmdeploy is not installed (docs/mmdeploy.md says how)')

from rtmdet_plugin.mmdeploy_support.comparison import compare
from rtmdet_plugin.mmdeploy_support.deploy import deploy, prepare

BACKENDS = dict(
    onnxruntime_dynamic='onnxruntime',
    onnxruntime_static='onnxruntime',
    openvino_static='openvino',
    openvino_dynamic='openvino',
)
SMALL = {
    'model.backbone': dict(widen_factor=0.125, init_cfg=None),
    'model.neck': dict(in_channels=[32, 64, 128], out_channels=32),
    'model.bbox_head': dict(in_channels=32, feat_channels=32, num_classes=3),
}


@pytest.fixture(scope='module')
def masked(inputs, tmp_path_factory):
    """The inputs of `deploy` for a small RTMDet-Ins, and an image that is enlarged to the input's size."""
    folder = tmp_path_factory.mktemp('masked')
    torch.manual_seed(0)
    config = Config.fromfile(inputs.deploy_cfg.filename.replace('deploy/onnxruntime_static', 'rtmdet_ins_tiny'))
    config.merge_from_dict({f'{part}.{key}': value for part, keys in SMALL.items() for key, value in keys.items()})
    model = MODELS.build(config.model)
    model.init_weights()
    vary_predictions(model, cls_std=0.5, cls_bias=-1.0, norm_std=0.5)
    for layer in model.bbox_head.rtm_kernel:
        torch.nn.init.normal_(layer.weight, std=0.12)  # so that masks differ between images
    torch.save(dict(state_dict=model.state_dict()), folder / 'ins.pth')
    pixels = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / 'image.png'), pixels)
    return inputs._replace(config=config, checkpoint=folder / 'ins.pth', image=folder / 'image.png')


@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=[pytest.mark.slow] * (n != 'onnxruntime_dynamic')) for n in BACKENDS]
)
def test_each_backend_finds_the_boxes_and_masks_of_pytorch(name, masked, deploy_config, tmp_path):
    if importlib.util.find_spec(BACKENDS[name]) is None:
        pytest.skip(f'{BACKENDS[name]} is not installed')
    limit = -1 if 'dynamic' in name else 1000
    deploy_cfg = deploy_config(name, max_output_boxes_per_class=600, keep_top_k=300, pre_top_k=limit)
    deployment = deploy(*masked._replace(deploy_cfg=deploy_cfg), tmp_path / 'out')
    assert deployment.comparison.num_boxes > 5, 'too few boxes to compare'
    assert deployment.comparison.masks > 0.95
    if name == 'onnxruntime_dynamic':
        assert_same_batch(masked._replace(deploy_cfg=deploy_cfg), [str(file) for file in deployment.files])


def assert_same_batch(inputs, files):
    """Compare a batch of another size with PyTorch."""
    from rtmdet_plugin.mmdeploy_support.job import task_processor

    job = prepare(*inputs, 'cpu')
    model = task_processor(job.model_cfg, job.deploy_cfg, 'cpu').build_backend_model(files)
    # Far from each other, so that the masks of one image don't fit another.
    images = 30 * torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    outputs = model.predict(images)
    assert outputs[2].shape == (*outputs[0].shape[:2], 64, 96)
    metas = [dict(img_shape=(64, 96), ori_shape=(64, 96), scale_factor=(1, 1))] * 3
    with torch.no_grad():
        expected = job.model.bbox_head.predict_by_feat(*job.model(images), batch_img_metas=metas)
    areas = np.concatenate([wanted.masks.numpy().mean((1, 2)) for wanted in expected])
    assert ((areas > 0.01) & (areas < 0.9)).sum() > 20, 'masks that are empty or full prove nothing'
    for wanted, dets, labels, masks in zip(expected, *outputs, strict=True):
        found = InstanceData(bboxes=dets[:, :4], scores=dets[:, 4], labels=labels, masks=masks >= 0.5)
        comparison = compare(wanted, found[found.scores > 0], sure_score=0.2501)
        assert comparison.num_boxes > 5 and comparison.box < 1e-2 and comparison.masks > 0.999
