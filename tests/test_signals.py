"""What a user or a spot machine does: `mim train`, a signal, `mim train --resume`; the same weights as without it.

The data path of this run has no random draws, so that what is compared is the stop and the resume alone. See
tests/hooks/test_graceful_stop.py for all the moments at which a signal can come.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow  # each of them trains three times
ROOT = Path(__file__).parents[1]
CONFIG = """
_base_ = '{root}/configs/rtmdet_nano.py'

custom_imports = dict(imports=['rtmdet_plugin', 'signal_probe'], allow_failed_imports=False)
custom_hooks = [dict(type='SignalProbe')]
data_root = '{data}/'
model = dict(bbox_head=dict(num_classes=1))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=False),
    dict(type='PackDetInputs'),
]
dataset = dict(data_root=data_root, ann_file='boxes.json', data_prefix=dict(img=''))
train_pipeline_stage2 = pipeline
train_dataloader = dict(batch_size=2, num_workers={workers}, persistent_workers={workers} > 0,
                        dataset=dict(pipeline=pipeline, **dataset))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                      dataset=dict(pipeline=_base_.test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'boxes.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(pipeline_switch=dict(switch_pipeline=pipeline, num_last_epochs=1), logger=dict(interval=3))
randomness = dict(seed=0)
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Sixteen pictures with a rectangle each: eight steps an epoch, four with two ranks."""
    root = tmp_path_factory.mktemp('pictures')
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(16):
        picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        cv2.rectangle(picture, (8, 8), (40, 30 + i), (255, 0, 0), -1)
        cv2.imwrite(str(root / f'{i}.png'), picture)
        images.append(dict(id=i, file_name=f'{i}.png', width=64, height=64))
        box = dict(bbox=[8, 8, 32, 22 + i], area=32 * (22 + i), iscrowd=0)
        annotations.append(dict(id=i + 1, image_id=i, category_id=1, **box))
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='box')])
    (root / 'boxes.json').write_text(json.dumps(content))
    for workers in (0, 2):
        (root / f'workers_{workers}.py').write_text(CONFIG.format(root=ROOT, data=root, workers=workers))
    return root


def start(config: Path, work_dir: Path, *args: str, at: str = '') -> subprocess.Popen:
    """`mim train`; the probe in it waits where `at` says, `rank:iteration`, and for a signal."""
    paths = os.pathsep.join(filter(None, (str(ROOT / 'tests'), str(ROOT), os.environ.get('PYTHONPATH'))))
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'SIGNAL_PROBE': at, 'PYTHONPATH': paths}
    command = [sys.executable, '-m', 'mim', 'train', 'mmdet', str(config), '--work-dir', str(work_dir), *args]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def ended(process: subprocess.Popen, code: int) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == code, output[-4000:]
    return output


def group(pid: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != 'Z':
            found.append(int(path.parent.name))
    return found


def assert_equal(a, b, where='') -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, list):
        for k, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f'{where}[{k}]')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def last(work_dir: Path) -> dict:
    loaded = torch.load(work_dir / 'epoch_2.pth', weights_only=True)
    return {key: loaded[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')}


@pytest.mark.parametrize(('number', 'workers'), [(signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_stopped_and_resumed_is_as_never_stopped(data, tmp_path, number, workers):
    config = data / f'workers_{workers}.py'
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    reference = start(config, whole)
    stopped = start(config, parts, at='0:10')
    ended(reference, 0)
    while not (parts / 'ready').exists() and stopped.poll() is None:
        time.sleep(0.1)
    # SIGTERM as a supervisor sends it, to what it has started; Ctrl-C as a terminal sends it, to everybody.
    os.kill(stopped.pid, number) if number == signal.SIGTERM else os.killpg(stopped.pid, number)
    output = ended(stopped, 128 + number)
    assert f'{number.name}: stopped after iteration 11' in output and 'Traceback' not in output
    assert group(stopped.pid) == [], 'no worker is left'
    output = ended(start(config, parts, '--resume'), 0)
    assert 'Going on within epoch 2: its first 3 batches are done.' in output
    assert_equal(last(parts), last(whole))


def test_two_ranks_stop_after_the_same_step(data, tmp_path):
    """One of them gets the signal; torchrun sends it to all where it gets it itself."""
    options = ('--launcher', 'pytorch', '--gpus', '2')
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    config = data / 'workers_0.py'
    ended(start(config, whole, *options), 0)
    stopped = start(config, parts, *options, at='1:5')
    while not (parts / 'ready').exists() and stopped.poll() is None:
        time.sleep(0.1)
    os.kill(int((parts / 'ready').read_text()), signal.SIGTERM)
    output = ended(stopped, 1)  # the launcher's code for a rank that ended early
    assert 'stopped after iteration 6' in output
    assert group(stopped.pid) == []
    ended(start(config, parts, '--resume', *options), 0)
    assert_equal(last(parts), last(whole))
