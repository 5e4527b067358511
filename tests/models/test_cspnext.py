"""Backbone: shapes, variants, freezing, pretrained weights, bad settings."""

import pytest
import torch
from torch import nn

from rtmdet_plugin.models import RTMCSPNeXt

SMALL = dict(widen_factor=0.125, deepen_factor=0.33)


def test_p5_shapes():
    outs = RTMCSPNeXt(**SMALL)(torch.rand(2, 3, 64, 96))
    assert [tuple(o.shape) for o in outs] == [(2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]


def test_p6_shapes():
    outs = RTMCSPNeXt(arch='P6', out_indices=(2, 3, 4, 5), **SMALL)(torch.rand(2, 3, 64, 128))
    assert [tuple(o.shape) for o in outs] == [(2, 32, 8, 16), (2, 64, 4, 8), (2, 96, 2, 4), (2, 128, 1, 2)]


def test_p6_state_dict_is_mmdets():
    from mmdet.models.backbones import CSPNeXt

    norm_cfg = dict(type='BN', momentum=0.1, eps=1e-5)
    theirs = CSPNeXt(arch='P6', out_indices=(2, 3, 4, 5), norm_cfg=norm_cfg, **SMALL)
    theirs.eval()  # returns None there
    ours = RTMCSPNeXt(arch='P6', out_indices=(2, 3, 4, 5), **SMALL).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.rand(1, 3, 64, 64)
    for a, b in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('kernel_size', [3, 5, 7])
def test_kernel_keeps_the_size(kernel_size):
    model = RTMCSPNeXt(kernel_size=kernel_size, **SMALL)
    kernels = {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    assert kernels == {(kernel_size, kernel_size)}
    assert model(torch.rand(2, 3, 64, 64))[0].shape[-2:] == (8, 8)


def test_channel_attention_can_be_left_out():
    assert any('attention' in key for key in RTMCSPNeXt(**SMALL).state_dict())
    assert not any('attention' in key for key in RTMCSPNeXt(channel_attention=False, **SMALL).state_dict())


def test_arch_ovewrite_replaces_the_table():
    stages = [
        [64, 128, 3, True, False],
        [128, 256, 9, True, False],
        [256, 512, 9, True, False],
        [512, 1024, 3, False, True],
    ]
    model = RTMCSPNeXt(arch_ovewrite=stages, widen_factor=0.125)
    assert [len(getattr(model, f'stage{i}')[-1].blocks) for i in (1, 2, 3, 4)] == [3, 9, 9, 3]


def test_spp_is_three_pools_of_five_in_a_row():
    spp = RTMCSPNeXt(**SMALL).stage4[1].eval()
    pools = [m for m in spp.modules() if isinstance(m, nn.MaxPool2d)]
    assert [p.kernel_size for p in pools] == [5]
    x = torch.randn(1, 128, 17, 9)
    hidden = spp.conv1(x)
    side_by_side = [hidden] + [nn.functional.max_pool2d(hidden, k, stride=1, padding=k // 2) for k in (5, 9, 13)]
    torch.testing.assert_close(spp(x), spp.conv2(torch.cat(side_by_side, dim=1)), rtol=0, atol=0)


@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_frozen_stages_keep_weights_and_statistics(frozen_stages):
    model = RTMCSPNeXt(frozen_stages=frozen_stages, **SMALL).train()
    for i, name in enumerate(model.layers):
        layer = getattr(model, name)
        frozen = i <= frozen_stages
        assert all(p.requires_grad is not frozen for p in layer.parameters())
        assert all(m.training is not frozen for m in layer.modules())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(torch.rand(2, 3, 64, 64))
    moved = {k.split('.')[0] for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == set(model.layers[frozen_stages + 1 :])


def test_frozen_stages_need_no_gradient_before_the_first_epoch():
    """DDP registers parameters before `train` is called, and would wait forever for those that are frozen later."""
    model = RTMCSPNeXt(frozen_stages=1, **SMALL)
    frozen = {name.split('.')[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'stem', 'stage1'}


def test_norm_eval_keeps_statistics_but_trains_weights():
    model = RTMCSPNeXt(norm_eval=True, **SMALL).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert model.training


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (dict(arch='P7'), r"arch must be one of \['P5', 'P6'\], got 'P7'"),
        (dict(out_indices=(2, 3, 5)), r'out_indices must lie in 0\.\.4 \(P5\), got \(2, 3, 5\)'),
        (dict(frozen_stages=5), r'frozen_stages must lie in -1\.\.4 \(P5\), got 5'),
        (dict(frozen_stages=-2), r'frozen_stages must lie in -1\.\.4 \(P5\), got -2'),
        (dict(kernel_size=4), r'kernel_size must be odd and positive .*got 4'),
        (dict(kernel_size=-1), r'kernel_size must be odd and positive .*got -1'),
        (dict(widen_factor=0), r'widen_factor and deepen_factor must be positive, got 0'),
    ],
)
def test_bad_settings(bad, message):
    with pytest.raises(ValueError, match=message):
        RTMCSPNeXt(**{**SMALL, **bad})


# -- pretrained weights ---------------------------------------------------------------------------------------


def pretrained(path, **kwargs):
    return RTMCSPNeXt(init_cfg=dict(type='Pretrained', prefix='backbone.', checkpoint=str(path)), **kwargs)


def save_backbone(path, drop=(), **kwargs):
    """A classification checkpoint as mmpretrain writes it: a backbone with the prefix 'backbone.', and a head."""
    state_dict = {f'backbone.{k}': v for k, v in RTMCSPNeXt(**kwargs).state_dict().items() if k not in drop}
    state_dict['head.fc.weight'] = torch.zeros(10, 4)
    torch.save(dict(state_dict=state_dict, meta=dict(epoch=600)), path)
    return state_dict


def test_pretrained_weights_are_taken(tmp_path):
    state_dict = save_backbone(tmp_path / 'cspnext.pth', **SMALL)
    model = pretrained(tmp_path / 'cspnext.pth', **SMALL)
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, state_dict[f'backbone.{key}']), key


def test_pretrained_weights_of_another_size_are_refused_by_name_and_shape(tmp_path):
    save_backbone(tmp_path / 'cspnext.pth', **SMALL)
    model = pretrained(tmp_path / 'cspnext.pth', widen_factor=0.25, deepen_factor=0.33)
    with pytest.raises(ValueError, match=r'stem\.0\.conv\.weight must be \(8, 3, 3, 3\), got \(4, 3, 3, 3\)'):
        model.init_weights()


def test_pretrained_weights_with_a_hole_are_refused(tmp_path):
    save_backbone(tmp_path / 'cspnext.pth', drop=['stage2.0.conv.weight'], **SMALL)
    with pytest.raises(ValueError, match=r'1 of \d+ tensors.*\n.*stage2\.0\.conv\.weight must be .* not in the file'):
        pretrained(tmp_path / 'cspnext.pth', **SMALL).init_weights()


def test_pretrained_weights_that_can_not_be_downloaded(tmp_path, monkeypatch):
    """A one-line error says where to put the file, or how to train without it; the address refuses connections."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    model = pretrained('http://127.0.0.1:9/cspnext-s_imagenet_600e.pth', **SMALL)
    with pytest.raises(RuntimeError) as caught:
        model.init_weights()
    message = str(caught.value)
    assert '\n' not in message
    assert str(tmp_path / 'hub' / 'checkpoints' / 'cspnext-s_imagenet_600e.pth') in message
    assert '--cfg-options model.backbone.init_cfg=None' in message


def test_the_file_put_at_that_path_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    cache = tmp_path / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    state_dict = save_backbone(cache / 'cspnext-s_imagenet_600e.pth', **SMALL)
    model = pretrained('http://127.0.0.1:9/cspnext-s_imagenet_600e.pth', **SMALL)
    model.init_weights()
    assert torch.equal(model.stem[0].conv.weight, state_dict['backbone.stem.0.conv.weight'])


def test_pretrained_path_that_does_not_exist(tmp_path):
    with pytest.raises(RuntimeError, match='check the path .*missing.pth'):
        pretrained(tmp_path / 'missing.pth', **SMALL).init_weights()


def test_pretrained_file_that_is_no_checkpoint(tmp_path):
    """A proxy's error page, saved under the checkpoint's name."""
    (tmp_path / 'cspnext.pth').write_text('<html>403</html>')
    with pytest.raises(RuntimeError) as caught:
        pretrained(tmp_path / 'cspnext.pth', **SMALL).init_weights()
    message = str(caught.value)
    assert '\n' not in message
    assert 'cspnext.pth' in message and 'model.backbone.init_cfg=None' in message
