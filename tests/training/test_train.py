"""`rtmdet train`: the written config, the same run with mim, and what is refused before a work directory is made."""

import contextlib
import errno
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import faults
import pytest
import torch
from click.testing import CliRunner
from labelled_data import write_voc, write_yolo
from mmdet.models import RTMDet
from mmdet.registry import MODELS
from mmengine.config import Config
from rich.console import Console
from rich.progress import Progress
from states import assert_same, training_state
from user_commands import run_mim
from user_run import CONFIGS, ROOT

from rtmdet_cli.main import main
from rtmdet_plugin import train
from rtmdet_plugin.checkpoints import published
from rtmdet_plugin.training import live_line, log_services
from rtmdet_plugin.training.fit_to_data import KNOWN
from rtmdet_plugin.training.start_weights import find_weights
from rtmdet_runtime import atomic_files
from rtmdet_runtime.choices import MODELS as OFFERED

SMALL = ['--model', 'nano', '--weights', 'none']
SHORT = '--model nano --weights none --epochs 1 --imgsz 64 --workers 0 --set default_hooks.logger.interval=1'


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with a YOLO dataset `pets`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(published.HOME, str(tmp_path / 'weights'))
    monkeypatch.setenv(published.MIRROR, 'http://127.0.0.1:9')  # no server: tests download nothing
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    write_yolo(tmp_path / 'pets', 8, 4)
    return tmp_path


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ['train', *arguments])
    assert done.exit_code == code, f'{done.output}\n{done.exception!r}'
    return done.stdout if code == 0 else done.stderr


def logged(work_dir: Path) -> list[dict]:
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{name: value for name, value in line.items() if 'time' not in name} for line in lines]


def test_a_dry_run_writes_a_config_that_says_what_was_printed(folder):
    before = {path: path.stat().st_mtime_ns for path in (folder / 'pets').rglob('*')}
    printed = call('pets', *SMALL, '--batch', '4', '--amp', '--patience', '3', '--dry-run')
    file = folder / 'work_dirs' / 'pets_1' / 'input' / 'pets_1.py'
    assert f'mim train mmdet {file}\n' in printed
    assert 'Data: pets/data.yaml (YOLO); images: 8 for train, 4 for val; 2 classes: cat, dog\n' in printed
    config = Config.fromfile(file)
    assert re.search(rf'^  epochs +{config.train_cfg.max_epochs} +2 steps per epoch', printed, flags=re.MULTILINE)
    assert re.search(rf'^  lr +{config.optim_wrapper.optimizer.lr} ', printed, flags=re.MULTILINE)
    assert re.search(r'^  batch +4 +set by you$', printed, flags=re.MULTILINE)
    assert config.train_dataloader.batch_size == 4 and config.model.bbox_head.num_classes == 2
    assert config.train_dataloader.dataset.metainfo.classes == ('cat', 'dog')
    assert config.optim_wrapper.type == 'RTMBFloat16OptimWrapper' and config.custom_hooks[-1].patience == 3
    assert (
        config.custom_hooks[-1].type == 'RTMEarlyStoppingHook'
        and config.default_hooks.pipeline_switch.val_interval == 1
    )
    assert config.work_dir == str(folder / 'work_dirs' / 'pets_1') and config.randomness.seed == 0
    assert before == {path: path.stat().st_mtime_ns for path in (folder / 'pets').rglob('*')}
    assert train('pets', model='nano', weights='none', dry_run=True) == folder / 'work_dirs' / 'pets_2'
    assert train('pets', weights='none', name='my run', classes=['dog'], dry_run=True).name == 'my_run_1'
    config = Config.fromfile('work_dirs/my_run_1/input/my_run_1.py')
    assert config.val_dataloader.dataset.metainfo.classes == ('dog',) and config.model.bbox_head.num_classes == 1


def test_weights_that_detect_the_classes_are_trained_with_a_lower_rate(folder):
    torch.save(dict(state_dict={}, meta=dict(dataset_meta=dict(CLASSES=('person', 'Cat')))), 'coco.pth')
    weights = ['--model', 'nano', '--weights', 'coco.pth', '--dry-run']
    printed = call('pets', *weights)
    assert 'coco.pth; of 2 classes, they do not yet detect dog\n' in printed
    usual = Config.fromfile('work_dirs/pets_1/input/pets_1.py').optim_wrapper.optimizer.lr
    printed = call('pets', *weights, '--classes', 'cat')
    assert 'coco.pth; they already detect all classes\n' in printed
    config = Config.fromfile('work_dirs/pets_2/input/pets_2.py')
    assert config.optim_wrapper.optimizer.lr == pytest.approx(KNOWN * usual, rel=0.05)
    assert 'RTMKeepClassesHook' in {hook.type for hook in config.custom_hooks}
    Path('broken.pth').write_bytes(b'PK')
    assert 'broken.pth' in call('pets', '--weights', 'broken.pth', code=1) and not Path('work_dirs/pets_3').exists()


def test_weights_that_detect_the_classes_are_validated_before_the_first_epoch(folder):
    config = Config.fromfile(CONFIGS / 'rtmdet_nano.py').model
    config.bbox_head.num_classes = 2
    weights = MODELS.build(config).state_dict()  # AP 0, so no epoch is better
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=('dog', 'cat')))), 'random.pth')
    printed = call('pets', *SHORT.replace('none', 'random.pth').split())
    assert 'No epoch was better than the weights that the training started from.\n' in printed
    work_dir = folder / 'work_dirs' / 'pets_1'
    first, *others = logged(work_dir)
    assert first['coco/bbox_mAP'] == others[-1]['coco/bbox_mAP'] == 0 and first['step'] == 0 < others[-1]['step']
    (best,) = work_dir.glob('best_*.pth')
    assert best.name == 'best_coco_bbox_mAP_epoch_0.pth'
    saved = torch.load(best)['state_dict']
    for i in range(3):
        name = f'bbox_head.rtm_cls.{i}.weight'
        assert torch.equal(saved[name], weights[name][[1, 0]]), 'the rows of cat and dog'
    (log,) = work_dir.glob('*/*.log')
    assert 'the class layers of 2 of 2 classes, which the weights detect: cat, dog.' in log.read_text()
    (work_dir / 'epoch_1.pth').unlink()  # as after a kill before the first checkpoint
    (work_dir / 'last_checkpoint').unlink()
    call(str(work_dir), '--resume')
    assert (work_dir / 'epoch_1.pth').is_file()
    texts = [file.read_text() for file in work_dir.glob('*/*.log')]
    assert len(texts) == 2 and all('which the weights detect: cat, dog.' in text for text in texts), 'not from scratch'


def test_mim_does_the_same_run_with_the_written_config(folder):
    call('pets', *SHORT.split())
    work_dir = folder / 'work_dirs' / 'pets_1'
    file = str(work_dir / 'input' / 'pets_1.py')
    assert 'chose' not in (page := (work_dir / 'report.html').read_text()) and '1 of 1' in page and 'set by you' in page
    assert (work_dir / 'epoch_1.pth').is_file() and '_base_' in Path(file).read_text()
    # mmengine reuses the visualizer of an earlier run in this process, with its folder, unless it has another name.
    changes = ['default_hooks.logger.interval=1', f'visualizer.name={folder.name}']
    run_mim('train', 'mmdet', file, '--work-dir', 'mim', '--cfg-options', *changes)
    assert logged(work_dir) == logged(Path('mim')) and len(logged(work_dir)) == 3
    assert 'loss' in logged(work_dir)[0] and 'coco/bbox_mAP' in logged(work_dir)[-1]
    call(str(work_dir), '--resume', '--set', 'train_cfg.max_epochs=2')
    assert (work_dir / 'epoch_2.pth').is_file()
    assert len(list(work_dir.glob('*/vis_data/scalars.json'))) == 2, 'each run has its own curves'


def test_in_a_terminal_one_line_shows_the_run_and_the_log_file_is_complete(folder, monkeypatch, capfd):
    shown = io.StringIO()
    monkeypatch.setattr(live_line, 'terminal', lambda: Console(file=shown, force_terminal=True, width=80))
    call('pets', *SHORT.split(), '--batch', '4')
    text = re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', shown.getvalue())
    assert re.search(r'epoch 1/1 · loss [\d.]+ · 0:00:00 left · [\d.]+ img/s · data \d+% · [\d.]+ GB', text)
    assert 'Epoch(val) [1][1/1]    coco/' in text, 'what a validation found stays'
    assert 'validation 1/1' in text and 'Before the first step: ' in text, 'messages are printed above the line'
    hidden = ['Epoch(train)', 'paramwise_options', 'Average Precision', 'System environment']
    printed = text + ''.join(capfd.readouterr())
    (log,) = (folder / 'work_dirs' / 'pets_1').glob('*/*.log')
    assert not [message for message in hidden if message in printed]
    assert [message for message in hidden if message not in log.read_text()] == ['Average Precision']  # pycocotools'


@pytest.mark.slow  # torchrun and two processes
def test_of_several_processes_one_shows_the_line(folder):
    command = ['train', 'pets', *SHORT.split(), '--batch', '4', '--gpus', '2', '--device', 'cpu']
    reader, terminal = pty.openpty()
    env = {**os.environ, 'TERM': 'xterm', 'COLUMNS': '80', 'LINES': '24'}
    with subprocess.Popen(
        [sys.executable, '-m', 'rtmdet_cli.main', *command], stdout=terminal, stderr=terminal, env=env
    ) as run:
        os.close(terminal)
        parts = []
        with contextlib.suppress(OSError):  # at the end, when nobody has the terminal open
            while part := os.read(reader, 4096):
                parts.append(part)
    os.close(reader)
    shown = b''.join(parts).decode()
    assert run.returncode == 0, shown
    training = shown[: shown.rindex('Epoch(val)')]  # the report has a bar of its own
    assert 'epoch 1/1 · loss' in training and training.count('\x1b[?25l') == 1, 'one bar hides the cursor'
    assert (folder / 'work_dirs/pets_1/epoch_1.pth').is_file() and 'Checkpoint: ' in shown
    assert len(logged(folder / 'work_dirs/pets_1')) == 2, 'a step on both, and the validation'


def test_a_terminal_that_has_gone_does_not_end_the_training():
    def fail():
        calls.append(1)
        raise OSError(errno.EIO, 'gone')

    calls: list[int] = []
    line = live_line.LiveLine(Progress())
    line.attempt(fail)
    line.attempt(fail)
    assert calls == [1]


def test_services_that_get_the_metrics(folder, monkeypatch):
    monkeypatch.setattr(log_services, 'find_spec', lambda name: None)
    error = call('pets', *SMALL, '--log', 'tensorboard', code=1)
    assert 'log needs tensorboard, not installed here: pip install tensorboard' in error
    assert 'log must be among tensorboard, mlflow, wandb, got comet' in call('pets', *SMALL, '--log', 'comet', code=1)
    monkeypatch.setattr(log_services, 'find_spec', lambda name: name)
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://me:secret@127.0.0.1:5000')
    call('pets', *SMALL, '--log', 'tensorboard,mlflow,wandb', '--dry-run')
    visualizer = Config.fromfile(folder / 'work_dirs/pets_1/input/pets_1.py').visualizer
    assert visualizer.type == 'DetLocalVisualizer'
    assert visualizer.vis_backends == [
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
        dict(type='RTMMLflowVisBackend', exp_name='pets', run_name='pets_1'),
        dict(type='WandbVisBackend', init_kwargs=dict(project='pets', name='pets_1')),
    ]


@pytest.mark.slow  # the same hook as in engine/hooks/test_graceful_stop.py
def test_a_run_that_was_stopped_continues_to_the_same_bits(folder, monkeypatch):
    arguments = ['pets', *SHORT.split(), '--epochs', '2', '--batch', '4']
    call(*arguments, '--name', 'complete')
    steps = iter((0, 0, signal.SIGINT))
    train_step = RTMDet.train_step
    with monkeypatch.context() as patch:
        stop = lambda *args, **kwargs: (number := next(steps)) and signal.raise_signal(number)  # noqa: E731
        patch.setattr(RTMDet, 'train_step', lambda *args, **kwargs: (stop(), train_step(*args, **kwargs))[1])
        error = call(*arguments, '--name', 'stopped', code=128 + signal.SIGINT)
    assert 'Traceback' not in error and not Path('work_dirs/stopped_1/epoch_2.pth').exists()
    call('work_dirs/stopped_1', '--resume')
    assert_same(*(training_state(Path(f'work_dirs/{name}_1/epoch_2.pth')) for name in ('complete', 'stopped')))


def test_a_full_disk_during_the_training_is_one_line_and_the_run_can_be_resumed(folder, monkeypatch):
    call('pets', *SHORT.split(), '--dry-run')
    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, 'open', lambda *args: faults.disk_full(), raising=False)
        error = call('work_dirs/pets_1', '--resume', code=1).splitlines()[-1]
    assert re.match(r'Error: \S+/pets_1/epoch_1.pth cannot be written \(No space left on device\); there is no', error)
    call('work_dirs/pets_1', '--resume')
    assert Path('work_dirs/pets_1/epoch_1.pth').is_file()


def test_a_refused_run_is_one_line_and_its_traceback_is_in_the_log(folder):
    error = call('pets', *SHORT.split(), '--set', 'model.bbox_head.num_classes=5', code=1)
    assert 'num_classes' in error.splitlines()[-1] and error.splitlines()[-1].startswith('Error: ')
    (log,) = re.findall(r'^The traceback is in (.*)$', error, flags=re.MULTILINE)
    assert 'Traceback (most recent call last)' in Path(log).read_text()


REFUSED = {
    'pets': r'published weights of rtmdet_tiny must be in .*weights, got no \S+\.pth, and its download failed',
    'pets --weights gone.pth': 'gone.pth: no such checkpoint',
    'pets --weights none --classes dog,fish': 'classes must be among cat, dog, got fish',
    'pets --weights none --imgsz 100': 'size must be an integer .* positive multiples of 32, got 100',
    'pets --weights none --device tpu': "device must be cpu, cuda or cuda:N, got 'tpu'",
    'gone': 'gone: no such file or folder',
    'gone.py': 'gone.py: no such config',
    'pets --resume': r'\S+/pets: no work directory of `rtmdet train`',
    'pets.py --model s': r'model=s must not be set: the config pets\.py has its own',
    'pets --resume --model s --seed 3 --amp': 'model=s, seed=3, amp=True must not be set: with resume, the run',
    'pets --weights none --epochs 9 --patience 2': 'patience must be shorter than stage 2, .*; set at most 1, or leave',
    'pets --weights none --epochs 1 --patience 1': 'patience must be shorter than stage 2, .*, got 1; leave it out',
    'rtmdet_plugin::rtmdet_tiny.py --patience 19': 'patience must be shorter than stage 2, the last 20 .*, got 19',
    'pets --weights none --gpus 2 --device cuda:1': 'device must be cuda or cpu with gpus=2, got cuda:1',
}


@pytest.mark.parametrize('arguments', REFUSED)
def test_what_is_refused_leaves_no_work_directory(arguments, folder):
    Path('pets.py').touch()
    assert re.search(
        rf'^Error: {REFUSED[arguments]}',
        call(*arguments.split(), code=1).replace('Error: the ', 'Error: '),
        re.MULTILINE,
    )
    assert not Path('work_dirs').exists()


def test_a_config_keeps_what_is_not_set(folder):
    text = f"_base_ = '{CONFIGS}/rtmdet_nano.py'\ntrain_dataloader = dict(batch_size=7)\n"
    Path('mine.py').write_text(text)
    call('mine.py', '--epochs', '5', '--amp', '--dry-run')
    config = Config.fromfile('work_dirs/mine_1/input/mine_1.py')
    assert config.train_cfg.max_epochs == 5 and config.train_cfg.val_interval == 10
    assert config.train_dataloader.batch_size == 7 and config.optim_wrapper.optimizer.lr == 0.004
    assert config.optim_wrapper.type == 'RTMBFloat16OptimWrapper' and len(config.param_scheduler) == 2


def test_the_published_weights_are_those_of_the_pages(folder, monkeypatch):
    pages = ''.join((ROOT / page).read_text() for page in ('README.md', 'docs/configs.md'))
    assert published.ADDRESSES.keys() == OFFERED.keys()
    for model, address in published.ADDRESSES.items():
        assert model == 'nano' or re.search(rf'\[`{OFFERED[model]}`\].*\[pth\]\({address}\)', pages), model
    file = published.home() / published.ADDRESSES['nano'].rpartition('/')[2]
    file.parent.mkdir()
    file.touch()
    assert find_weights('default', 'nano') == file
    monkeypatch.delenv(published.HOME)
    monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
    assert published.home() == Path('/cache/rtmdet')


def test_missing_splits_and_xml_files_are_written_to_the_work_directory(folder):
    write_voc(folder / "it's vöc", 8)
    printed = call("it's vöc", '--model', 'nano', '--weights', 'none', '--val-fraction', '0.25', '--dry-run')
    config = Config.fromfile('work_dirs/it_s_vöc_1/input/it_s_vöc_1.py')
    for split, count in dict(train=6, val=2).items():
        data = config[f'{split}_dataloader'].dataset
        assert Path(data.ann_file) == folder / 'work_dirs' / 'it_s_vöc_1' / 'input' / f'{split}.json'
        images = json.loads(Path(data.ann_file).read_text())['images']
        assert len(images) == count and all((Path(data.data_prefix.img) / i['file_name']).is_file() for i in images)
    assert 'Note: there is no validation split, so 2 of 8 images were taken' in printed
