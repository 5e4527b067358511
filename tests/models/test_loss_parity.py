"""The complete loss compared with mmdet's head in random cases: values, and gradients of the head's outputs."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from oracle import model_cfg, to_mmdet

SIZE, STRIDES = 96, (8, 16, 32)
SIDES = st.sampled_from([0.5, 3.0, 8.0, 20.0, 70.0, 400.0])  # tiny to huge
BOX = st.tuples(st.floats(-40, 120, width=32), st.floats(-40, 120, width=32), SIDES, SIDES)


def build_heads(num_classes: int):
    cfg = model_cfg(1, 1, [8], 8, 1, exp_on_reg=False, num_classes=num_classes)
    heads = []
    for whose in (cfg, to_mmdet(cfg)):
        heads.append(MODELS.build(ConfigDict(whose['bbox_head'], train_cfg=whose['train_cfg'])))
    return heads


HEADS = {num_classes: build_heads(num_classes) for num_classes in (1, 3, 80)}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    images=st.lists(st.lists(BOX, max_size=12), min_size=1, max_size=3),
    duplicates=st.booleans(),
    spread=st.sampled_from(['equal', 'normal', 'extreme']),
    num_classes=st.sampled_from([1, 3, 80]),
    pad=st.sampled_from([(SIZE, SIZE), (SIZE, 40), (1, 1)]),
    seed=st.integers(0, 2**16),
)
def test_loss_and_gradients_are_mmdets(images, duplicates, spread, num_classes, pad, seed):
    """Tiny, huge, outside and duplicate boxes; one prior (padding of 1 px); equal logits, and logits of +-40."""
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(len(images), num_classes, SIZE // s, SIZE // s, generator=generator) for s in STRIDES]
    logits = {'equal': [x * 0 - 2 for x in logits], 'normal': logits, 'extreme': [x.sign() * 40 for x in logits]}[
        spread
    ]
    distances = [torch.rand(len(images), 4, SIZE // s, SIZE // s, generator=generator) * 4 * s for s in STRIDES]
    objects = []
    for boxes in images:
        corners = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in boxes]).reshape(-1, 4)
        corners = corners.repeat(2, 1) if duplicates else corners
        labels = torch.randint(0, num_classes, (len(corners),), generator=generator)
        # Identical boxes get one label. With two labels they cost the same at each prior where the predicted box misses
        # them, and rounding, which differs between CPUs, would select the label.
        labels = labels[corners.unique(dim=0, return_inverse=True)[1]]
        objects.append(InstanceData(bboxes=corners, labels=labels))
    metas = [dict(img_shape=pad, pad_shape=pad)] * len(images)

    results = []
    for head in HEADS[num_classes]:
        maps = [x.clone().requires_grad_() for x in (*logits, *distances)]
        losses = head.loss_by_feat(maps[:3], maps[3:], objects, metas)
        losses = {name: sum(value) if isinstance(value, list | tuple) else value for name, value in losses.items()}
        sum(losses.values()).backward()
        results.append((losses, [x.grad for x in maps]))
    (ours, our_grads), (theirs, their_grads) = results
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=1e-5)
    scale = max(grad.abs().max().item() for grad in their_grads) + 1e-12
    torch.testing.assert_close(
        [grad / scale for grad in our_grads], [grad / scale for grad in their_grads], rtol=2e-3, atol=1e-5
    )
