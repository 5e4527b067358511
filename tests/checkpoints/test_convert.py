"""Checkpoint files of mmyolo: converted both ways, and read without a conversion."""

import copy
import importlib
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from rtmdet_plugin import convert_checkpoint, load_model, publish
from rtmdet_plugin.checkpoints import fit_to_model
from rtmdet_plugin.checkpoints.mmyolo_keys import rename
from rtmdet_plugin.errors import RefusedError

META = dict(dataset_meta=dict(classes=('circle', 'square', 'triangle')), cfg='model = dict()', seed=1)


@pytest.fixture
def theirs(shapes_model) -> dict:
    """The demo's weights as mmyolo would save them: three levels share a tensor, one is in half precision."""
    state = rename(shapes_model.state_dict(), 'mmyolo')
    shared = 'bbox_head.head_module.cls_convs.{}.0.conv.weight'
    for level in (1, 2):
        state[shared.format(level)] = state[shared.format(0)]
    state['backbone.stem.0.conv.weight'] = state['backbone.stem.0.conv.weight'].half()
    return state


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_there_and_back_is_bit_exact(theirs, tmp_path, suffix):
    if suffix == '.safetensors':
        pytest.importorskip('safetensors')
    checkpoint = dict(state_dict=theirs, meta=META, ema_state_dict=theirs, optimizer={}, param_schedulers=[])
    torch.save(checkpoint, tmp_path / 'mmyolo.pth')
    done = convert_checkpoint(tmp_path / 'mmyolo.pth', tmp_path / f'ours{suffix}', 'mmdet')
    assert (done.tensors, done.averaged, done.converted) == (len(theirs), True, 'mmdet')
    assert done.dropped == ['ema_state_dict', 'optimizer', 'param_schedulers', 'meta.cfg']

    ours = CheckpointLoader.load_checkpoint(str(done.path))
    assert equal(ours['state_dict'], rename(theirs, 'mmdet')) and ours.keys() == {'state_dict', 'meta'}
    assert ours['meta'].keys() - {'format'} == {'dataset_meta', 'exp_on_reg'} and ours['meta']['exp_on_reg'] is False

    done = convert_checkpoint(done.path, tmp_path / f'back{suffix}', 'mmyolo')
    back = CheckpointLoader.load_checkpoint(str(done.path))
    assert equal(back['state_dict'], theirs) and done.dropped == []
    assert back['meta'].keys() - {'format'} == {'dataset_meta'}
    if suffix == '.pth':
        names = [f'bbox_head.head_module.cls_convs.{level}.0.conv.weight' for level in range(3)]
        assert len({back['state_dict'][name].data_ptr() for name in names}) == 1


def test_every_way_into_a_model(shapes_model, shapes_config, tmp_path):
    """`load_model`, mmengine's `load_checkpoint` (mmdet's and mmdeploy's way), and `publish`; bare weights as well."""
    torch.save(rename(shapes_model.state_dict(), 'mmyolo'), tmp_path / 'bare.pth')
    assert equal(load_model(shapes_config(), tmp_path / 'bare.pth').state_dict(), shapes_model.state_dict())
    other = copy.deepcopy(shapes_model)
    nn.init.zeros_(other.bbox_head.rtm_cls[0].weight)
    load_checkpoint(other, str(tmp_path / 'bare.pth'), strict=True)
    assert equal(other.state_dict(), shapes_model.state_dict())
    done = publish(tmp_path / 'bare.pth', tmp_path / 'published.pth')
    written = CheckpointLoader.load_checkpoint(str(done.path))
    assert equal(written['state_dict'], shapes_model.state_dict()) and done.converted == 'mmdet'
    assert written['meta'] == dict(exp_on_reg=False)
    again = publish(done.path, tmp_path / 'again.pth')
    assert CheckpointLoader.load_checkpoint(str(again.path))['meta'] == dict(exp_on_reg=False)


@pytest.mark.parametrize('name', fit_to_model.LOADERS)
def test_modules_that_were_imported_before_this_package(name, monkeypatch):
    module = importlib.import_module(name)
    fitting = module._load_checkpoint_to_model
    assert fitting.__wrapped__
    monkeypatch.setattr(module, '_load_checkpoint_to_model', fitting.__wrapped__)
    for _ in range(2):
        fit_to_model.fit_all_checkpoints()
        assert not hasattr(module._load_checkpoint_to_model.__wrapped__, '__wrapped__')


@pytest.mark.parametrize('kind', ['mmyolo', 'converted', 'trained'])
def test_a_model_that_would_decode_wrongly_is_refused(shapes_model, shapes_config, tmp_path, kind):
    """Whether the setting is known by the names, from a conversion, or from the text of the training's config."""
    path = tmp_path / 'c.pth'
    torch.save(rename(shapes_model.state_dict(), 'mmyolo'), path)
    if kind == 'converted':
        path = convert_checkpoint(path, tmp_path / 'converted.pth', 'mmdet').path
    elif kind == 'trained':
        torch.save(dict(state_dict=shapes_model.state_dict(), meta=dict(cfg=shapes_config().pretty_text)), path)
    said = 'model.bbox_head.exp_on_reg must be False, .*, got True: .*--cfg-options model.bbox_head.exp_on_reg=False'
    config = shapes_config({'model.bbox_head.exp_on_reg': True})
    with pytest.raises(RefusedError, match=f'{path.name}: {said}'):
        load_model(config, path)
    other = copy.deepcopy(shapes_model)
    other.bbox_head.exp_on_reg = True
    with pytest.raises(RefusedError, match=said):
        load_checkpoint(other, str(path))
    load_checkpoint(shapes_model, str(path), strict=True)


def test_mmyolos_own_model_loads_as_before(tmp_path):
    head = nn.ModuleDict(dict(head_module=nn.ModuleDict(dict(rtm_cls=nn.Linear(2, 1, bias=False)))))
    torch.save({'bbox_head.head_module.rtm_cls.weight': torch.ones(1, 2)}, tmp_path / 'c.pth')
    load_checkpoint(nn.ModuleDict(dict(bbox_head=head)), str(tmp_path / 'c.pth'), strict=True)
    assert head['head_module']['rtm_cls'].weight.tolist() == [[1, 1]]


@pytest.mark.parametrize('ours', ['neck', 'bbox_head', 'neck bbox_head'])
def test_a_model_of_mmyolo_with_parts_of_ours(theirs, ours):
    """Our parts have mmdet's names, the others keep mmyolo's; a checkpoint of that training loads as it is."""
    both = zip(theirs, rename(theirs, 'mmdet'), strict=True)
    names = [new if old.startswith(tuple(ours.split())) else old for old, new in both]
    model = SimpleNamespace(state_dict=lambda: dict.fromkeys(names), bbox_head=SimpleNamespace())
    wrapped = {f'module.{name}': value for name, value in theirs.items()}
    for weights in (theirs, wrapped):
        fitted = fit_to_model.fit_to_model(model, weights, {}, 'c.pth')
        assert list(fitted) == names and all(map(torch.equal, fitted.values(), theirs.values()))
    assert fit_to_model.fit_to_model(model, fitted, {}, 'c.pth') is fitted


def test_a_model_with_masks_takes_the_class_branch_of_a_detector(theirs):
    """Its tower has two names; the box branch, which comes last, would overwrite the class branch."""
    detector = rename(theirs, 'mmdet')
    names = dict.fromkeys([*detector, 'bbox_head.rtm_kernel.0.weight'])
    model = SimpleNamespace(state_dict=lambda: names, bbox_head=SimpleNamespace())
    for weights in (theirs, detector, {f'module.{name}': value for name, value in detector.items()}):
        fitted = [name.removeprefix('module.') for name in fit_to_model.fit_to_model(model, weights, {}, 'c.pth')]
        assert fitted == [n for n in detector if not n.startswith(('bbox_head.reg_convs.', 'bbox_head.rtm_reg.'))]
        assert any(name.startswith('bbox_head.cls_convs.') for name in fitted)
    with_masks = {**detector, 'bbox_head.rtm_kernel.0.weight': torch.ones(1)}
    assert fit_to_model.fit_to_model(model, with_masks, {}, 'c.pth') is with_masks


def test_bad_input_is_named_and_nothing_is_written(theirs, shapes_model, shapes_config, tmp_path):
    both = zip(theirs.items(), rename(theirs, 'mmdet'), strict=True)
    half = {new if new.startswith('bbox_head') else old: value for (old, value), new in both}
    v5 = {name.replace('rtm_', 'convs_pred_'): value for name, value in theirs.items()}
    wide = {name: value.new_ones(*value.shape[:1], 192, 1, 1) if 'rtm_reg' in name and value.ndim == 4 else value
            for name, value in shapes_model.state_dict().items()}  # fmt: skip
    source, target = tmp_path / 'c.pth', tmp_path / 'out.pth'
    for state, to, said in (
        (nn.Linear(1, 1).state_dict(), 'mmdet', 'those of RTMDet'),
        (v5, 'mmdet', 'another detector of mmyolo'),
        (half, 'mmdet', 'half converted'),
        (theirs, 'mmyolo', "got mmyolo's already"),
        (wide, 'mmyolo', 'exp_on_reg must be False in weights for mmyolo, .* got True'),
    ):
        torch.save(dict(state_dict=state), source)
        with pytest.raises(ValueError, match=f'{source}: .*{said}'):
            convert_checkpoint(source, target, to)
    before = {name: value.clone() for name, value in shapes_model.state_dict().items()}
    for state, said in ((v5, 'another detector of mmyolo'), (half, 'half converted')):
        torch.save(dict(state_dict=state), source)
        for use in (lambda: load_model(shapes_config(), source), lambda: publish(source, target)):
            with pytest.raises(ValueError, match=f'{source}: .*{said}'):
                use()
        with pytest.raises(RefusedError, match=f'the checkpoint: .*{said}'):
            load_checkpoint(shapes_model, str(source))
    torch.save(nn.Linear(1, 1).state_dict(), source)
    with pytest.raises(ValueError, match=f'{source} does not fit .*: .*weight'):
        load_model(shapes_config(), source)
    assert equal(shapes_model.state_dict(), before)
    assert [path.name for path in tmp_path.iterdir()] == ['c.pth']
    with pytest.raises(ValueError, match='would replace the input'):
        convert_checkpoint(source, source, 'mmdet')
