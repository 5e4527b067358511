"""P6 and Swin-B against mmdet's own config files: state dict, input, outputs, losses.

The networks are narrow and shallow, in both configs alike; the tests marked slow have them at their full size.
"""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from oracle import ROOT, random_gt, vary_predictions

SIZE = 128  # pixels: 16, 8, 4 and 2 cells
MMDET_NAMES = dict(
    x_p6='rtmdet_x_p6_4xb8-300e_coco',
    l_swin_b='rtmdet_l_swin_b_4xb32-100e_coco',
    l_swin_b_p6='rtmdet_l_swin_b_p6_4xb16-100e_coco',
)
SMALL = dict(
    x_p6=dict(
        backbone=dict(widen_factor=0.125, deepen_factor=0.167),
        neck=dict(in_channels=[32, 64, 96, 128], out_channels=32, num_csp_blocks=1),
        bbox_head=dict(in_channels=32, feat_channels=32),
    ),
    l_swin_b=dict(
        backbone=dict(embed_dims=32, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]),
        neck=dict(in_channels=[64, 128, 256], out_channels=64, num_csp_blocks=1),
        bbox_head=dict(in_channels=64, feat_channels=64),
    ),
    l_swin_b_p6=dict(
        backbone=dict(embed_dims=32, depths=[1, 1, 1, 1, 1], num_heads=[1, 2, 4, 8, 16]),
        neck=dict(in_channels=[64, 128, 256, 512], out_channels=64, num_csp_blocks=1),
        bbox_head=dict(in_channels=64, feat_channels=64),
    ),
)


def build(config: Config, changes: dict) -> torch.nn.Module:
    config.model.backbone.init_cfg = None  # would download the Swin backbone
    config.merge_from_dict(dict(model=changes))
    return revert_sync_batchnorm(MODELS.build(config.model))  # mmdet's batch norms would train on GPUs only


@pytest.fixture(
    scope='module',
    params=[*SMALL, *(pytest.param(f'{name}, full size', marks=pytest.mark.slow) for name in SMALL)],
)
def pair(request):
    """Our model and mmdet's with the same weights, each strictly loaded from the other."""
    name, _, full = request.param.partition(', ')
    changes = {} if full else SMALL[name]
    torch.manual_seed(0)
    ours = build(Config.fromfile(ROOT / 'configs' / f'rtmdet_{name}.py'), changes)
    mmdets = build(get_config(f'mmdet::rtmdet/{MMDET_NAMES[name]}.py'), changes)
    ours.load_state_dict(mmdets.state_dict(), strict=True)
    vary_predictions(ours)
    mmdets.load_state_dict(ours.state_dict(), strict=True)
    return ours, mmdets


def test_input_and_outputs(pair):
    """From the image on, because Swin's is RGB."""
    image = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    results = []
    for model in pair:
        model.eval()
        with torch.no_grad():
            inputs = model.data_preprocessor(dict(inputs=[image], data_samples=[DetDataSample()]))['inputs']
            results.append((inputs, model(inputs)))
    (inputs, outputs), (expected_inputs, expected_outputs) = results
    torch.testing.assert_close(inputs, expected_inputs)
    for ours, mmdets in zip(outputs, expected_outputs, strict=True):  # logits, distances
        torch.testing.assert_close(ours, mmdets, rtol=1e-4, atol=1e-4)
        assert all(level.std() > 0.01 for level in ours), 'constant outputs prove nothing'


def test_losses_and_gradients(pair):
    """In evaluation mode, in which drop paths drop nothing."""
    image = torch.rand(2, 3, SIZE, SIZE)
    shape = dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0))
    gts = random_gt(torch.Generator().manual_seed(2), 2, SIZE)
    samples = [DetDataSample(gt_instances=gt, metainfo=shape) for gt in gts]
    results = []
    for model in pair:
        model.eval().zero_grad()
        losses = {k: sum(v) if isinstance(v, list) else v for k, v in model(image, samples, mode='loss').items()}
        sum(losses.values()).backward()
        results.append((losses, model.neck.reduce_layers[0].conv.weight.grad))
    (losses, grad), (expected_losses, expected_grad) = results
    assert min(expected_losses.values()) > 0.01, 'no loss proves nothing'
    torch.testing.assert_close(losses, expected_losses, rtol=2e-4, atol=0)
    scale = expected_grad.abs().max()
    torch.testing.assert_close(grad / scale, expected_grad / scale, rtol=2e-3, atol=2e-3)


def test_an_image_is_padded_to_the_largest_stride(pair):
    """mmdet's models leave this to their pipelines."""
    ours, _ = pair
    image = torch.zeros(3, SIZE - 50, SIZE - 70, dtype=torch.uint8)
    inputs = ours.data_preprocessor(dict(inputs=[image], data_samples=[DetDataSample()]))['inputs']
    stride = ours.bbox_head.prior_generator.strides[-1][0]
    assert inputs.shape[2:] == (-(-(SIZE - 50) // stride) * stride, -(-(SIZE - 70) // stride) * stride)
