"""One call sets the input size in all pipelines of a config, or raises an error and changes nothing."""

import copy
import re
from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config

from rtmdet_plugin import composable, find_step, set_input_size
from rtmdet_plugin.errors import RefusedError

CONFIGS = Path(__file__).parents[2] / 'configs'
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet'


@pytest.fixture
def config():
    return Config.fromfile(CONFIGS / 'rtmdet_s.py')


def with_sizes(config: Config, x: float, y: float) -> str:
    """Return the config as text with each pair of 3-digit numbers scaled: an independent way to edit its sizes."""
    pair = re.compile(r'\((\d{3,}), (\d{3,})\)')
    return pair.sub(lambda m: f'({round(int(m[1]) * x)}, {round(int(m[2]) * y)})', repr(config.to_dict()))


@pytest.mark.parametrize(
    'base',
    [f"'{CONFIGS}/rtmdet_s.py'", f"['{CONFIGS}/rtmdet_s.py', '{CONFIGS}/_base_/deploy_preset.py']"],
    ids=['one file', 'two files'],
)
def test_in_a_config_it_changes_all_sizes_and_nothing_else(base, tmp_path):
    call = '\nfrom rtmdet_plugin import set_input_size\n\nset_input_size(_base_, (512, 384))\n'
    texts = dict(plain=f'_base_ = {base}\n', resized=f'_base_ = {base}\n{call}')
    configs = {}
    for name, text in texts.items():
        (tmp_path / f'{name}.py').write_text(text)
        configs[name] = Config.fromfile(tmp_path / f'{name}.py')
    expected = with_sizes(configs['plain'], 512 / 640, 384 / 640)
    assert repr(configs['resized'].to_dict()) == expected
    assert '(1024, 768)' in expected, 'stage 2 loads at twice the size'


def test_the_chain_of_small_steps(config):
    small = copy.deepcopy(config)
    for loaded in (small.train_dataloader.dataset, small):
        name = 'pipeline' if 'pipeline' in loaded else 'train_pipeline'
        loaded[name] = composable(loaded[name])
    small.default_hooks.pipeline_switch.switch_pipeline = composable(config.train_pipeline_stage2)
    for edited in (config, small):
        set_input_size(edited, 96)
    assert small.train_pipeline == small.train_dataloader.dataset.pipeline == composable(config.train_pipeline)
    assert small.default_hooks.pipeline_switch.switch_pipeline == composable(config.train_pipeline_stage2)


@pytest.mark.parametrize('name', ['rtmdet_l_8xb32-300e_coco.py', 'rtmdet-ins_l_8xb32-300e_coco.py'])
def test_configs_of_mmdet_with_tta(name):
    config = Config.fromfile(MMDET_CONFIGS / name)
    config.pop('img_scales')  # a variable of the file that defines the TTA pipeline; nothing reads it later
    expected = with_sizes(config, 0.5, 0.5)
    set_input_size(config, 320)
    assert repr(config.to_dict()) == expected and '(480, 480)' in expected


def test_defaults_of_the_mixing_steps_become_sizes(config):
    config.train_pipeline = [dict(type='CachedMosaic'), dict(type='mmdet.Pad', size=640)]
    set_input_size(config, 64)
    assert config.train_pipeline == [
        dict(type='CachedMosaic', img_scale=(64, 64)), dict(type='mmdet.Pad', size=(64, 64)),
    ]  # fmt: skip


@pytest.mark.parametrize('size', [500, 0, -32, 64.0, True, '640', (640, 500), (640,), (640, 640, 640), None])
def test_sizes_that_are_refused(config, size):
    with pytest.raises(ValueError, match=r'size must be .* multiples of 32, got ' + re.escape(repr(size))):
        set_input_size(config, size)


def test_the_heads_strides_divide_the_size(config):
    config.model.bbox_head.anchor_generator.strides = [8, 16, 32, 64]
    with pytest.raises(RefusedError, match='multiples of 64, got 608'):
        set_input_size(config, 608)
    del config.model.bbox_head.anchor_generator
    with pytest.raises(RefusedError, match='model.bbox_head.anchor_generator.strides'):
        set_input_size(config, 640)


def one_size(config):
    find_step(config.train_pipeline_stage2, 'Pad').size = (512, 512)


def no_size(config):
    find_step(config.test_dataloader.dataset.pipeline, 'Resize').scale = None


def ratio(config):
    find_step(config.train_pipeline, 'RTMCachedMixUp').img_scale = (0.5, 0.5)


def unknown_step(config):
    affine = dict(type='RandomAffine', border=(-320, -320))
    config.train_pipeline.insert(2, dict(type='RandomApply', transforms=[affine]))


def batch_augment(config):
    config.model.data_preprocessor.batch_augments = [dict(type='BatchSyncRandomResize', random_size_range=(480, 800))]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (one_size, r'train_pipeline_stage2: Pad has size=\(512, 512\), but the test pipeline has \(640, 640\)'),
        (no_size, 'scale of Resize in the test pipeline must be .* got None'),
        (ratio, r'train_pipeline: img_scale of RTMCachedMixUp must be .* got \(0.5, 0.5\)'),
        (unknown_step, r'train_pipeline: RandomAffine has border=\(-320, -320\), an argument'),
        (batch_augment, r'batch_augments: BatchSyncRandomResize has random_size_range=\(480, 800\), an argument'),
    ],
)
def test_configs_that_are_refused_stay_as_they_are(config, change, message):
    change(config)
    before = config.to_dict()
    with pytest.raises(RefusedError, match=message):
        set_input_size(config, 512)
    assert config.to_dict() == before
