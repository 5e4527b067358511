"""RTMDet-Ins against mmdet itself: state dict, outputs, losses, gradients, boxes, masks, for each size."""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.runner import load_checkpoint, save_checkpoint
from mmengine.structures import InstanceData
from oracle import INS_SIZES, build_pair

SIZE = 64  # pixels: 8, 4 and 2 cells


@pytest.fixture(
    scope='module',
    params=[pytest.param(size, marks=pytest.mark.slow) if size in 'lx' else size for size in INS_SIZES],
)
def pair(request):
    return build_pair(request.param, INS_SIZES)


def samples(seed=2, size=SIZE):
    """Two images: one without objects, one with five ellipses that overlap."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in (0, 5):
        middle, radius = (torch.rand(count, 2, generator=generator) * size for _ in range(2))
        radius = radius / 2 + 4
        y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing='ij')
        offset = torch.stack([x, y], -1)[None] - middle[:, None, None]  # (count, size, size, 2)
        masks = (offset / radius[:, None, None]).square().sum(-1) < 1
        sample = DetDataSample(metainfo=dict(img_shape=(size, size), pad_shape=(size, size)))
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([middle - radius, middle + radius], 1).clamp(0, size),
            labels=torch.randint(0, 80, (count,), generator=generator),
            masks=BitmapMasks(masks.numpy().astype(np.uint8), size, size),
        )
        found.append(sample)
    return found


def test_state_dicts_are_the_same_key_for_key_in_both_directions(pair):
    ours, mmdets = pair
    a, b = ours.state_dict(), mmdets.state_dict()
    assert list(a) == list(b)
    assert [v.shape for v in a.values()] == [v.shape for v in b.values()]
    mmdets.load_state_dict(a, strict=True)
    ours.load_state_dict(b, strict=True)
    assert a['bbox_head.reg_convs.1.0.bn.weight'].data_ptr() == a['bbox_head.cls_convs.1.0.bn.weight'].data_ptr()


def test_outputs(pair):
    ours, mmdets = (model.eval() for model in pair)
    x = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        found, expected = ours(x), mmdets(x)
        assert len(found) == len(expected) == 4
        for a, b in zip(found, expected, strict=True):  # logits, distances, kernels, prototypes
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            assert all(level.std() > 0.01 for level in a), 'constant outputs prove nothing'


def test_losses_and_gradients(pair):
    ours, mmdets = (model.train() for model in pair)
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    results = []
    for model in (ours, mmdets):
        before = copy.deepcopy(model.state_dict())
        model.zero_grad()
        losses = {name: sum(v) if isinstance(v, list) else v for name, v in model(x, samples(), mode='loss').items()}
        sum(losses.values()).backward()
        results.append((losses, {name: p.grad for name, p in model.named_parameters()}))
        model.load_state_dict(before)  # the statistics of the batch norms have changed
    (losses, grads), (expected_losses, expected_grads) = results
    assert losses.keys() == expected_losses.keys() == {'loss_cls', 'loss_bbox', 'loss_mask'}
    for name, expected in expected_losses.items():
        assert expected > 0.01, 'no loss proves nothing'
        torch.testing.assert_close(losses[name], expected, rtol=1e-4, atol=0)
    scales = {name: grad.abs().max() + 1e-8 for name, grad in expected_grads.items()}
    grads, expected_grads = ({k: v / scales[k] for k, v in g.items()} for g in (grads, expected_grads))
    torch.testing.assert_close(grads, expected_grads, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('factor', [None, 1, 2])
def test_boxes_and_masks(pair, factor):
    """In pixels of the input, or enlarged. mmdet interpolates twice, so that pixels near the threshold differ then.

    That ours are those of one interpolation is tested in models/test_rle_masks.py.
    """
    ours, mmdets = (model.eval() for model in pair)
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    ori_shape = (SIZE * (factor or 1), 50 * (factor or 1))
    scale_factor = (1 / (factor or 1),) * 2
    metainfo = dict(img_shape=(SIZE, 50), ori_shape=ori_shape, scale_factor=scale_factor, pad_shape=(SIZE, SIZE))
    results = [predict(model, x, metainfo, rescale=factor is not None) for model in (ours, mmdets)]
    assert_same_masks(*results, wrong=0.01 if factor == 2 else 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('trained', [0, 1], ids=['ours in mmdets', 'mmdets in ours'])
def test_checkpoint_after_training_gives_the_same_masks_in_the_other_model(trained, tmp_path):
    models = [model.train() for model in build_pair('tiny', INS_SIZES)]
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    source, target = models[trained], models[1 - trained]
    before = copy.deepcopy(source.state_dict())
    optimizer = torch.optim.SGD(source.parameters(), lr=1e-3)
    for _ in range(2):
        losses = source(x, samples(), mode='loss').values()
        optimizer.zero_grad()
        sum(sum(v) if isinstance(v, list) else v for v in losses).backward()
        optimizer.step()
    for name in ('mask_head.projection.weight', 'rtm_kernel.0.bias', 'reg_convs.1.0.bn.running_mean'):
        name = f'bbox_head.{name}'
        assert not torch.equal(source.state_dict()[name], before[name]), name
    checkpoint = str(tmp_path / 'trained.pth')
    save_checkpoint(dict(state_dict=source.state_dict()), checkpoint)
    load_checkpoint(target, checkpoint, strict=True)
    metainfo = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), scale_factor=(1, 1), pad_shape=(SIZE, SIZE))
    assert_same_masks(*(predict(model.eval(), x, metainfo, rescale=True) for model in models))


def predict(model, x, metainfo, rescale):
    data_samples = [DetDataSample(metainfo=metainfo) for _ in x]
    with torch.no_grad():
        return model.bbox_head.predict(model.extract_feat(x), data_samples, rescale=rescale)


def assert_same_masks(ours, mmdets, wrong=1e-4):
    """Compare boxes and masks; a share of the pixels may differ."""
    for a, b in zip(ours, mmdets, strict=True):
        assert len(b.bboxes) > 10, 'too few boxes to compare'
        torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-4)
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=0, atol=1e-2)
        assert a.labels.tolist() == b.labels.tolist()
        found = a.masks.numpy()
        expected = b.masks[..., : found.shape[2]].numpy()  # mmdet's have the padding as well
        assert found.shape == expected.shape
        assert 0.05 < expected.mean() < 0.95, 'empty masks prove nothing'
        assert (found != expected).mean() < wrong
