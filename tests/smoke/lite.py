"""The extra `lite`: each size builds from its packaged config, `mim train` trains, and mmdet's inferencer predicts."""

import subprocess
import sys
from pathlib import Path

from mmdet.apis import DetInferencer
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import rtmdet_plugin

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from user_run import CONFIGS, write_user_data  # noqa: E402

PACKAGED = 'rtmdet_plugin::'
SIZES = ('nano', 'tiny', 's', 'm', 'l', 'x')


def build_each_size() -> None:
    """Build each model from a user's config of one line."""
    init_default_scope('mmdet')
    counts = []
    for size in SIZES:
        Path('of_size.py').write_text(f"_base_ = '{PACKAGED}rtmdet_{size}.py'\n")
        model = MODELS.build(Config.fromfile('of_size.py').model)
        counts.append(sum(parameter.numel() for parameter in model.parameters()))
    assert counts == sorted(set(counts)), f'parameters of {SIZES}: {counts}'


def train_and_predict() -> None:
    """Train one epoch on generated images, each of them seen once, and predict with the checkpoint."""
    data = Path('data').resolve()
    data.mkdir()
    config = write_user_data(data) / 'config.py'
    text = config.read_text()
    assert f'{CONFIGS}/' in text
    config.write_text(text.replace(f'{CONFIGS}/', PACKAGED))
    settings = ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.pipeline_switch.num_last_epochs=0')
    subprocess.run(['mim', 'train', 'mmdet', config, '--work-dir', 'work', '--cfg-options', *settings], check=True)
    inferencer = DetInferencer(str(config), 'work/epoch_1.pth', device='cpu', show_progress=False)
    (found,) = inferencer(str(data / 'img' / '0.png'))['predictions']
    assert found.keys() == {'bboxes', 'labels', 'scores'}, found


assert not Path(rtmdet_plugin.__file__).is_relative_to(TESTS.parent), 'the wheel has to be tested, not the checkout'
build_each_size()
train_and_predict()
