"""Loading a model from a config and a checkpoint; invalid input fails with a one-line error."""

import copy
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from rtmdet_plugin import RTMDetPredictor
from rtmdet_plugin.checkpoints.load_model import config_file, load_config, load_model, read_config
from rtmdet_plugin.compat.torch_load import DamagedCheckpointError, UnsafeCheckpointError
from rtmdet_plugin.config.pipelines import preprocessing
from rtmdet_plugin.export.metadata import class_names, model_info, thresholds
from rtmdet_runtime.postprocess import class_wise_nms

CONFIGS = Path(__file__).parents[2] / 'configs'
NANO = CONFIGS / 'rtmdet_nano_person.py'


@pytest.fixture
def saved(random_model, tmp_path):
    """A function that saves a checkpoint's content, and the state dict of nano with 80 classes."""
    state = {name: value.clone() for name, value in random_model('nano').state_dict().items()}

    def save(content) -> Path:
        torch.save(content, tmp_path / 'c.pth')
        return tmp_path / 'c.pth'

    return save, state


def refusal(config, checkpoint, kind=ValueError) -> str:
    with pytest.raises(kind) as caught:
        load_model(config, checkpoint)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('wrap', [dict, lambda state: dict(state_dict=state, meta=dict(epoch=1))])
def test_a_checkpoint_or_a_bare_state_dict(saved, wrap):
    save, state = saved
    prefixed = {f'module.{name}': value for name, value in state.items() if not name.endswith('num_batches_tracked')}
    model = load_model(CONFIGS / 'rtmdet_nano.py', save(wrap(prefixed)))
    assert not model.training
    for name, value in model.state_dict().items():
        if not name.endswith('num_batches_tracked'):
            assert torch.equal(value, state[name])


def test_a_checkpoint_that_does_not_fit(saved):
    save, state = saved
    message = refusal(NANO, save(dict(state_dict=state)))
    assert 'c.pth does not fit the model of' in message and '6 tensors have another shape' in message
    assert 'bbox_head.rtm_cls.0.weight: (80, 64, 1, 1), the model (1, 64, 1, 1)' in message
    name = next(iter(state))
    state['other'] = state.pop(name)
    message = refusal(CONFIGS / 'rtmdet_nano.py', save(state))
    assert f'1 are missing ({name}); 1 are not in the model (other)' in message
    state['bbox_head.rtm_kernel.0.bias'] = torch.zeros(169)
    message = refusal(CONFIGS / 'rtmdet_nano.py', save(state))
    assert 'c.pth does not fit the model of' in message and message.endswith(
        '; use the config that it was trained with'
    )
    assert 'the checkpoint is that of a model with masks (RTMDet-Ins), and this model predicts none' in message


def test_a_weight_that_is_no_number(saved, tmp_path):
    save, state = saved
    names = [name for name, value in state.items() if value.is_floating_point()][:5]
    for name, value in zip(names, (float('nan'), float('inf'), -float('inf'), float('nan'), float('nan')), strict=True):
        state[name].view(-1)[:2] = value
    message = refusal(CONFIGS / 'rtmdet_nano.py', save(dict(state_dict=state)))
    count = state[names[0]].numel()
    assert (
        f'c.pth: weights must be finite, got NaN or infinity in 5 of {len(state)} tensors: {names[0]} (2 of' in message
    )
    assert f'{names[0]} (2 of {count} values), {names[1]}' in message and 'and 2 more; the file is damaged' in message
    with pytest.raises(ValueError, match='c.pth: weights must be finite'):
        RTMDetPredictor(CONFIGS / 'rtmdet_nano.py', tmp_path / 'c.pth')


def test_checkpoints_of_other_things(saved):
    save, state = saved
    config = CONFIGS / 'rtmdet_nano.py'
    for content, said in (
        ([1], 'content must be a dict with string keys, got list'),
        (dict(state_dict=[1]), 'state_dict must be a dict with string keys, got list'),
        ({0: torch.zeros(1)}, 'content must be a dict with string keys, got a dict with other keys'),
        (dict(state_dict={0: torch.zeros(1)}), 'state_dict must be a dict with string keys, got a dict with other'),
        (dict(state_dict=state, meta=[1]), 'meta must be a dict with string keys, got list'),
        (dict(state_dict=state, meta=dict(dataset_meta=[1])), 'dataset_meta must be a dict with string keys, got list'),
        (dict(state_dict=state, meta=dict(dataset_meta={0: 'a'})), 'dataset_meta must be a dict with string keys, got'),
    ):
        assert f'c.pth: {said}' in refusal(config, save(content))
    assert load_model(config, save(dict(state_dict=state, meta=None))).dataset_meta == {}


def test_files_that_are_none(saved, tmp_path):
    save, state = saved
    (tmp_path / 'folder.pth').mkdir()
    assert 'folder.pth: no such checkpoint' in refusal(NANO, tmp_path / 'folder.pth', FileNotFoundError)
    assert 'none.pth: no such checkpoint' in refusal(NANO, tmp_path / 'none.pth', FileNotFoundError)
    assert 'none.py: no such config' in refusal(tmp_path / 'none.py', save(state), FileNotFoundError)
    (tmp_path / 'cut.pth').write_bytes(save(state).read_bytes()[:1000])
    assert 'cut.pth is cut off' in refusal(NANO, tmp_path / 'cut.pth', DamagedCheckpointError)
    (tmp_path / 'broken.py').write_text('model = (')
    assert 'broken.py: not a config that mmengine can read' in refusal(tmp_path / 'broken.py', save(state))
    (tmp_path / 'empty.py').write_text('lr = 1\n')
    assert 'it has no model.backbone' in refusal(tmp_path / 'empty.py', save(state))
    (tmp_path / 'unknown.py').write_text("model = dict(type='RTMDet', backbone=dict(type='Nothing'))\n")
    assert 'its model cannot be built' in refusal(tmp_path / 'unknown.py', save(state))


class TestConfigByName:
    @pytest.mark.parametrize('name', ['rtmdet_s.py', '_base_/model.py', 'deploy/onnxruntime_static.py'])
    def test_our_own(self, name):
        path = config_file(f'rtmdet_plugin::{name}')
        assert path.samefile(CONFIGS / name)
        assert load_config(Path(f'rtmdet_plugin::{name}')).pretty_text == Config.fromfile(CONFIGS / name).pretty_text

    def test_mmdets(self):
        config = read_config('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py')
        assert config.model.bbox_head.type == 'RTMDetSepBNHead' and config.model.backbone.widen_factor == 0.5

    def test_a_file_of_such_a_name_comes_first(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / 'rtmdet_plugin::rtmdet_s.py').write_text('x = 1\n')
        assert load_config('rtmdet_plugin::rtmdet_s.py').x == 1

    def test_the_nearest_names(self):
        with pytest.raises(FileNotFoundError, match='rtmdet_huge.py: not one of the [0-9]+ configs .* rtmdet_nano.py'):
            config_file('rtmdet_plugin::rtmdet_huge.py')
        with pytest.raises(FileNotFoundError, match='nearest: .*rtmdet/rtmdet_s_8xb32-300e_coco.py'):
            config_file('mmdet::rtmdet/rtmdet_s.py')

    @pytest.mark.parametrize('name', ['nowhere::a.py', '::a.py', '..::a.py', 'numpy::a.py', 'importlib::a.py'])
    def test_a_package_without_configs(self, name):
        with pytest.raises(FileNotFoundError, match='with configs is installed; use rtmdet_plugin::NAME or mmdet'):
            config_file(name)


def test_a_config_that_fails_when_it_runs(tmp_path):
    for content, said in (
        ('raise KeyError(3)', 'KeyError: 3'),
        ("_base_ = 'rtmdet_plugin::no.py'", 'FileNotFoundError'),
    ):
        (tmp_path / 'c.py').write_text(content)
        with pytest.raises(ValueError, match=f'c.py: not a config that mmengine can read: {said}'):
            load_config(tmp_path / 'c.py')


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (shutil.copy, (__file__, str(tmp_path / 'ran')))

    torch.save(dict(state_dict={}, evil=Evil()), tmp_path / 'evil.pth', pickle_module=pickle)
    assert 'evil.pth is refused' in refusal(NANO, tmp_path / 'evil.pth', UnsafeCheckpointError)
    assert not (tmp_path / 'ran').exists()


class TestMetadata:
    def test_names_of_the_checkpoint_then_of_the_config_then_numbers(self, random_model):
        model = random_model('nano')
        assert class_names(model)[:2] == ('class 0', 'class 1') and len(class_names(model)) == 80
        names = tuple(f'n{i}' for i in range(80))
        config = model.cfg
        try:
            model.cfg = dict(
                test_dataloader=dict(dataset=dict(type='Repeat', dataset=dict(metainfo=dict(classes=names))))
            )
            assert class_names(model) == names
            model.dataset_meta = dict(classes=names[::-1])
            assert class_names(model) == names[::-1]
            for others in (dict(classes=('too', 'few')), dict(classes=5), [1]):
                model.dataset_meta = others
                assert class_names(model) == names
        finally:
            model.cfg = config
            del model.dataset_meta

    @pytest.mark.parametrize(
        ('steps', 'said'),
        [
            ([dict(type='Pad', size=(64, 64))], 'scale of Resize .* got None'),
            ([1], r'test pipeline must be a list of steps .* got \[1\]'),
            ([dict(scale=640)], 'test pipeline must be a list of steps'),
            (5, 'test pipeline must be a list of steps .* got 5'),
            ([dict(type='Resize', scale=('a', 64))], 'scale of Resize .* must be .width, height., got'),
            (
                [dict(type='Resize', scale=(64, 32), keep_ratio=True), dict(type='Pad', size=64)],
                'size of Pad in the test pipeline must be that of Resize, .* got 64',
            ),
            ([dict(type='Resize', scale=640)], 'scale of Resize .* must be .width, height., got 640'),
            (
                [dict(type='Resize', scale=(64, 32), keep_ratio=True), dict(type='Pad', size_divisor=32)],
                'size of Pad in the test pipeline must be that of Resize, .* got None',
            ),
        ],
    )
    def test_pipelines_that_the_runtime_does_not_know(self, random_model, steps, said):
        config = random_model('nano').cfg.copy()
        config.test_dataloader.dataset.pipeline = steps
        with pytest.raises(ValueError, match=said):
            preprocessing(config)

    def test_pipelines(self, random_model):
        config = random_model('nano').cfg.copy()
        config.test_dataloader.dataset.pipeline = [dict(type='mmdet.Resize', scale=(64, 32))]
        assert preprocessing(config) == dict(input_size=(32, 64), keep_ratio=False, pad_value=(0, 0, 0))
        config.test_dataloader.dataset.pipeline = [
            dict(type='Resize', scale=(64, 32), keep_ratio=True), dict(type='Pad', size=(64, 32), pad_val=7),
        ]  # fmt: skip
        assert preprocessing(config) == dict(input_size=(32, 64), keep_ratio=True, pad_value=(7, 7, 7))

    def test_another_nms(self):
        with pytest.raises(ValueError, match="test_cfg.nms must be dict.type='nms', iou_threshold=...."):
            thresholds(dict(nms=dict(type='soft_nms', iou_threshold=0.5)))


def test_a_config_without_a_test_set(random_model):
    model = copy.copy(random_model('nano'))
    model.cfg = Config(dict(model={}, test_dataloader=None, test_pipeline=[dict(type='Resize', scale=(64, 32))]))
    info = model_info(model, 'raw', None)
    assert info.input_size == (32, 64) and info.classes[:2] == ('class 0', 'class 1')
    for nothing in ({}, dict(test_dataloader=None, test_pipeline=None)):
        model.cfg = Config(dict(model={}, **nothing))
        with pytest.raises(ValueError, match='must have test_dataloader or test_pipeline, got neither'):
            model_info(model, 'raw', None)


@pytest.mark.parametrize('everything', [-1, 0, None])
def test_all_candidates(everything):
    nms = dict(type='nms', iou_threshold=0.5)
    count = thresholds(dict(nms=nms, nms_pre=everything))['nms_pre']
    assert count > 10**6 and thresholds(dict(nms=nms, nms_pre=7))['nms_pre'] == 7
    far = np.arange(50, dtype=np.float32)[:, None] * 20 + np.array([0, 0, 9, 9], np.float32)
    candidates = far, np.linspace(1, 0.1, 50, dtype=np.float32), np.zeros(50, np.int64)
    assert len(class_wise_nms(candidates, 0.5, count, 100)[0]) == 50


@pytest.mark.parametrize(
    ('test_cfg', 'said'),
    [
        (None, 'model.test_cfg must be a dict .* got None'),
        (dict(nms=1), 'test_cfg.nms must be a dict .* got 1'),
        (dict(nms=dict(iou_threshold='x')), "iou_threshold must be a number, got 'x'"),
        (dict(nms=dict(iou_threshold=0.5), score_thr='abc'), "score_thr must be a number, got 'abc'"),
        (dict(nms=dict(iou_threshold=0.5), max_per_img=None), 'max_per_img must be a number, got None'),
    ],
)
def test_thresholds_that_are_none(test_cfg, said):
    with pytest.raises(ValueError, match=said):
        thresholds(test_cfg)


def test_a_test_set_that_is_none(random_model):
    for loader in (1, dict(dataset=1), dict(dataset=dict(type='Concat', datasets=[]))):
        config = random_model('nano').cfg.copy()
        config.test_dataloader = loader
        with pytest.raises(ValueError, match='test_dataloader of the config must have a dataset with a pipeline'):
            preprocessing(config)
