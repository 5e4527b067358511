"""The commands that a user types: mim train, --resume, --launcher pytorch, mim test; and mmdet's DetInferencer.

A new process costs seconds, so one training is started as a user starts it. If the start isn't what is tested, mmdet's
tool, which mim starts, runs in this process.
"""

import json
import math
import os
import re
import subprocess
import sys

import cv2
import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from samples import SHAPES_CONFIG
from user_commands import run_mim as run_tool
from user_run import CONFIGS, ROOT, write_user_data


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    return write_user_data(tmp_path_factory.mktemp('pictures'))


def run_mim(*args, cwd=None, **env) -> subprocess.CompletedProcess:
    """Run mim as a user does, from another folder."""
    command = [sys.executable, '-m', 'mim', *map(str, args)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', **env}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=cwd)


def mim(*args, **kwargs) -> str:
    """Return the output of a run; if the run fails, the test fails and shows it."""
    done = run_mim(*args, **kwargs)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def trained(pictures, tmp_path_factory):
    """A run of two epochs, one per stage: its work directory and its output."""
    work_dir = tmp_path_factory.mktemp('run') / 'work'
    return work_dir, mim('train', 'mmdet', pictures / 'config.py', '--work-dir', work_dir)


def scalars(work_dir):
    """Return the logged records, run by run."""
    lines = [
        line for path in sorted(work_dir.glob('*/vis_data/scalars.json')) for line in path.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


def test_mim_train_trains_both_stages(trained):
    work_dir, output = trained
    losses = [(entry['epoch'], entry['loss']) for entry in scalars(work_dir) if 'loss' in entry]
    assert [epoch for epoch, _ in losses] == [1] * 4 + [2] * 4
    assert all(math.isfinite(loss) and loss > 0 for _, loss in losses)
    assert (work_dir / 'epoch_2.pth').exists()
    assert 'coco/bbox_mAP' in output


@pytest.mark.slow  # training/test_train.py and test_startup_signals.py refuse runs, each a part of the way
def test_a_refused_run_names_both_numbers_and_leaves_no_checkpoint(pictures, tmp_path):
    arguments = ('--work-dir', tmp_path, '--cfg-options', 'model.bbox_head.num_classes=7')
    done = run_mim('train', 'mmdet', pictures / 'config.py', *arguments)
    assert done.returncode == 1 and 'Traceback' not in done.stdout + done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith('rtmdet_plugin: model.bbox_head.num_classes=7, but ')
    (log,) = tmp_path.glob('*/*.log')
    assert 'Traceback' in log.read_text()
    for needed in ('7', '2', 'blue', 'red', 'model.bbox_head.num_classes=2'):
        assert needed in error
    assert {path.suffix for path in tmp_path.rglob('*') if path.is_file()} <= {'.log', '.py'}


def test_the_config_of_the_readme_trains(pictures, tmp_path, monkeypatch):
    """Run the unchanged block on images with its names, without the weights, which tests can't download."""
    blocks = re.findall(r'``python\n(.*?)``', (ROOT / 'README.md').read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if block.startswith('# cats.py')]
    (tmp_path / 'cats.py').write_text(block)
    data = tmp_path / 'data' / 'cats'
    data.mkdir(parents=True)
    for name in ('train.json', 'val.json'):
        (data / name).symlink_to(pictures / 'boxes.json')
    (data / 'images').symlink_to(pictures / 'img')
    options = ('load_from=None', 'train_cfg.max_epochs=1', 'train_dataloader.num_workers=0')
    options += ('train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0')
    options += ('val_dataloader.persistent_workers=False',)
    # Few images, because they are enlarged to 640x640 pixels.
    options += ('train_dataloader.dataset.indices=4', 'train_dataloader.batch_size=2')
    options += ('val_dataloader.dataset.indices=2',)
    monkeypatch.chdir(tmp_path)
    run_tool('train', 'mmdet', 'cats.py', '--auto-scale-lr', '--cfg-options', *options)
    work_dir = tmp_path / 'work_dirs' / 'cats'
    (log,) = work_dir.glob('*/*.log')
    assert 'coco/bbox_mAP' in log.read_text()
    assert (work_dir / 'last_checkpoint').exists()


def test_mim_resume_goes_on_where_it_stopped(pictures, trained, tmp_path):
    """mmengine's own --resume fails on torch >= 2.6: HistoryBuffer isn't allowed under weights_only."""
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    for name in ('epoch_2.pth', 'last_checkpoint'):
        content = (trained[0] / name).read_bytes().replace(str(trained[0]).encode(), str(work_dir).encode())
        (work_dir / name).write_bytes(content if name == 'last_checkpoint' else (trained[0] / name).read_bytes())
    options = ('train_cfg.max_epochs=3', 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False')
    options += ('visualizer.name=resumed',)  # a process has one of each name, with the folder of its first run
    arguments = (pictures / 'config.py', '--work-dir', work_dir, '--resume', '--cfg-options', *options)
    run_tool('train', 'mmdet', *map(str, arguments))
    entries = [entry for entry in scalars(work_dir) if 'loss' in entry]
    assert [(entry['epoch'], entry['step']) for entry in entries] == [(3, 9), (3, 10), (3, 11), (3, 12)]
    (log,) = work_dir.glob('*/*.log')
    assert 'resumed epoch: 2, iter: 8' in log.read_text()
    before, after = (torch.load(work_dir / f'epoch_{k}.pth', weights_only=True) for k in (2, 3))
    assert after['ema_state_dict']['steps'] == before['ema_state_dict']['steps'] + 4
    assert after['optimizer']['state'][0]['step'] == before['optimizer']['state'][0]['step'] + 4


def test_mim_test_evaluates_the_checkpoint(pictures, trained, tmp_path):
    """The weights of the run, with a head changed to find a blue object everywhere, unlike other heads."""
    checkpoint = torch.load(trained[0] / 'epoch_2.pth', weights_only=True)
    for key, value in checkpoint['state_dict'].items():
        if key.startswith('bbox_head.rtm_cls') and key.endswith('bias'):
            value.copy_(torch.tensor([4.0, -9.0]))
        if key.startswith('bbox_head.rtm_reg') and key.endswith('bias'):
            value.fill_(2.0)
    torch.save(checkpoint, tmp_path / 'biased.pth')
    arguments = (pictures / 'config.py', '--work-dir', tmp_path, '--out', tmp_path / 'found.pkl')
    run_tool('test', 'mmdet', *map(str, arguments), '--checkpoint', str(tmp_path / 'biased.pth'))
    found = mmengine.load(tmp_path / 'found.pkl')
    assert len(found) == 16
    for picture in found:
        assert len(picture['pred_instances']['labels']) > 0
        assert set(picture['pred_instances']['labels'].tolist()) == {0}


TWO_PROCESSES = """
_base_ = 'config.py'

custom_imports = dict(imports=['rtmdet_plugin', 'rank_probe'], allow_failed_imports=False)
custom_hooks = [dict(type='RankProbe')]
# Images without crops: if a crop shows no object, another image is drawn.
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=_base_.test_pipeline))
default_hooks = dict(pipeline_switch=dict(num_last_epochs=0))
train_cfg = dict(max_epochs=1)
"""


@pytest.mark.slow  # engine/runner/test_distributed.py trains in two processes, without mim
def test_two_processes_on_cpu_end_with_equal_weights(pictures, tmp_path):
    config = pictures / 'two_processes.py'
    config.write_text(TWO_PROCESSES)
    path = os.pathsep.join(filter(None, (str(ROOT / 'tests'), os.environ.get('PYTHONPATH'))))
    arguments = ('--work-dir', tmp_path / 'work', '--launcher', 'pytorch', '--gpus', 2)
    mim('train', 'mmdet', config, *arguments, RANK_PROBE=str(tmp_path), PYTHONPATH=path)
    a, b = (json.loads((tmp_path / f'rank{k}.json').read_text()) for k in (0, 1))
    assert a['weights'] == b['weights']
    assert sorted(a['pictures'] + b['pictures']) == list(range(16)), 'each picture once, on one of the ranks'
    assert len(a['pictures']) == 8


NINE_PICTURES = """
_base_ = '{config}'

# One image at a time: the other images of a batch change the last bits.
test_dataloader = dict(batch_size=1, dataset=dict(indices=9))
load_from = '{weights}'
work_dir = '{work}'
"""


@pytest.mark.slow
def test_two_processes_evaluate_each_picture_once(shapes, shapes_checkpoint, tmp_path, monkeypatch):
    """Nine images: two processes test five each, and the one that both test counts once."""
    monkeypatch.setenv('RTMDET_DEMO_DATA', str(shapes))
    weights, work = shapes_checkpoint, tmp_path / 'work'
    path = tmp_path / 'nine.py'
    path.write_text(NINE_PICTURES.format(config=SHAPES_CONFIG, weights=weights, work=work))
    alone = Runner.from_cfg(Config.fromfile(path)).test()
    assert alone['coco/bbox_mAP'] > 0.05, 'nine of 24 images are tested'

    arguments = ('--checkpoint', weights, '--launcher', 'pytorch', '--gpus', 2, '--out', tmp_path / 'found.pkl')
    output = mim('test', 'mmdet', path, '--work-dir', tmp_path / 'two', *arguments)
    (written,) = (tmp_path / 'two').glob('*/*.json')
    together = json.loads(written.read_text())
    assert {name: together[name] for name in alone} == alone, output[-2000:]
    found = mmengine.load(tmp_path / 'found.pkl')
    truth = json.loads((shapes / 'val.json').read_text())
    assert [picture['img_id'] for picture in found] == [image['id'] for image in truth['images'][:9]]


# -- DetInferencer --------------------------------------------------------------------------------------------

INFER = """
import json, sys
from mmdet.apis import DetInferencer
for out_dir, config, weights, picture in json.loads(sys.argv[1]):
    inferencer = DetInferencer(model=config, weights=weights, device='cpu')
    inferencer(picture, out_dir=out_dir, pred_score_thr=0.5, no_save_pred=False)
"""


INFERRED_SIZES = ('nano_person', 'tiny', 'm')  # each pipeline, with and without pretrained weights of the backbone
ODD_SIZE = """
_base_ = '{configs}/rtmdet_nano.py'

from rtmdet_plugin import find_step

test_pipeline = _base_.test_pipeline
find_step(test_pipeline, 'Resize').scale = (330, 330)
test_pipeline.remove(find_step(test_pipeline, 'Pad'))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""


@pytest.fixture(scope='module')
def inferred(pictures, shape_images, shapes_checkpoint, tmp_path_factory):
    """Results of mmdet's DetInferencer by case, in a new process that does not import the plugin explicitly."""
    folder = tmp_path_factory.mktemp('inferencer')
    (folder / 'odd_size.py').write_text(ODD_SIZE.format(configs=CONFIGS))
    cv2.imwrite(str(folder / 'wide.png'), np.full((61, 97), 128, dtype=np.uint8))  # grey, too
    cases = {size: (CONFIGS / f'rtmdet_{size}.py', None, pictures / 'img' / '0.png') for size in INFERRED_SIZES}
    cases['odd size'] = (folder / 'odd_size.py', None, folder / 'wide.png')
    cases['shapes'] = (SHAPES_CONFIG, shapes_checkpoint, shape_images[1])
    listed = [[str(folder / name), *(path and str(path) for path in case)] for name, case in cases.items()]
    done = subprocess.run(
        [sys.executable, '-c', INFER, json.dumps(listed)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(cv2.imread(str(folder / name / 'vis' / case[2].name)) is not None for name, case in cases.items())
    return {
        name: json.loads((folder / name / 'preds' / f'{case[2].stem}.json').read_text()) for name, case in cases.items()
    }


@pytest.mark.slow  # a process that loads each config
@pytest.mark.parametrize('case', [*INFERRED_SIZES, 'odd size'])
def test_det_inferencer_takes_the_configs_and_sizes_that_32_does_not_divide(inferred, case):
    assert inferred[case].keys() == {'bboxes', 'labels', 'scores'}


def test_det_inferencer_finds_shapes(inferred, shape_images, shapes):
    truth = json.loads((shapes / 'val.json').read_text())
    (image,) = (image for image in truth['images'] if image['file_name'] == shape_images[1].name)
    shown = [a['category_id'] - 1 for a in truth['annotations'] if a['image_id'] == image['id']]
    found = inferred['shapes']
    sure = [label for label, score in zip(found['labels'], found['scores'], strict=True) if score > 0.5]
    assert sorted(sure) == sorted(shown) != []
