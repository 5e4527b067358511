"""The command `rtmdet doctor`: what it prints and writes, its exit codes, and what it refuses."""

import contextlib
import json
import re
import sys
import time

import pytest
from click.testing import CliRunner
from labelled_data import write_coco, write_yolo
from samples import SHAPES_CONFIG

from rtmdet_cli import doctor
from rtmdet_cli.main import main
from rtmdet_plugin.doctor import images, machine, speed


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, with spaces and Unicode in its path, on a machine without findings."""
    path = tmp_path / "my work 'ü' 🐈"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.setattr(machine, 'check_machine', lambda folder: iter(()))
    return path


def run(*arguments: str, code: int = 0):
    done = CliRunner().invoke(main, ['doctor', *arguments])
    assert done.exit_code == code, f'{done.output}\n{done.exception!r}'
    return done


def test_without_data_the_machine_is_examined():
    printed = run('--strict').stdout
    assert re.search(r'PyTorch +2\.', printed) and re.search(r'packages +torch 2\.', printed)
    assert printed.splitlines()[-1].strip() == '0 errors, 0 warnings, 0 notes'


def test_findings_as_text_json_and_page(folder):
    write_yolo(folder / 'pets', 12, 4)
    names = ['<script>alert(1)</script>', '[red]Kätzchen[/red] 🐈']
    (folder / 'pets' / 'data.yaml').write_text(
        f'train: images/train\nval: images/val\nnames: {json.dumps(names, ensure_ascii=False)}'
    )
    label = folder / 'pets' / 'labels' / 'train' / 'a 0.txt'
    label.write_text(label.read_text() + '1 .5 .5 .02 .5\n' + '0 .5 .5 .5 .5\n' * 3)
    for _ in range(2):  # its own files are replaced
        done = run('pets', '--show', '1', '--json', 'found.json', '--page', 'found.html')
    assert '[red]Kätzchen[/red] 🐈, 1.6 x 30 px at (39.2, 15)' in ' '.join(done.stdout.split())
    assert 'and 1 more' in done.stdout and '0 errors, 2 warnings' in done.stdout
    content = json.loads((folder / 'found.json').read_text())
    (doubled,) = (finding for finding in content['findings'] if finding['kind'] == 'doubled boxes')
    assert len(doubled['items']) == 2 and doubled['items'][0]['box'] == [20, 15, 60, 45]
    assert content['data']['images'] == '12 train, 4 val' and 'PyTorch' in content['machine']
    page = (folder / 'found.html').read_text()
    assert page.startswith('<!DOCTYPE html>') and '<script' not in page and '&lt;script&gt;' in page
    assert page.count('data:image/jpeg;base64,') >= 2 and 'http' not in page
    assert json.loads(run('pets', '--json', '-').stdout)['findings'] == content['findings']


def test_strict_is_1_if_there_is_a_warning_and_wrong_usage_is_2(folder):
    write_yolo(folder / 'pets', 6, 3)
    run('pets', '--strict')
    (folder / 'pets' / 'labels' / 'train' / 'a 0.txt').write_text('0 .5 .5 .01 .5')
    run('pets')
    run('pets', '--strict', code=1)
    assert 'need DATA, got none' in run('--deep', code=2).stderr
    assert 'must be left out, unless DATA is a config' in run('pets', '--cfg-options', 'a=1', code=2).stderr
    assert run('nothing', code=1).stderr == 'Error: nothing: no such file or folder\n'


def test_data_that_can_not_be_read_is_a_finding(folder):
    (folder / 'pets').mkdir()
    assert 'pets must have annotations' in run('pets', '--page', 'found.html').stdout
    assert 'unreadable' in (folder / 'found.html').read_text()


def test_no_output_replaces_an_input_or_another_file(folder):
    write_coco(folder / 'pets', 6, 3)
    (folder / 'mine.html').write_text('<!DOCTYPE html><p>notes')
    annotations = folder / 'pets' / 'train' / '_annotations.coco.json'
    before = annotations.read_bytes()
    for option, name, said in (
        ('--json', 'pets/train/_annotations.coco.json', 'would replace a file of another kind'),
        ('--json', 'found.txt', 'must end in .json'),
        ('--page', 'mine.html', 'would replace a file of another kind'),
        ('--page', 'pets/train/_annotations.coco.json', 'must end in .html'),
        ('--page', 'pets', 'must end in .html'),
        ('--json', 'mine.html/found.json', 'can not be written'),
    ):
        assert said in run('pets', option, name, code=1).stderr
    assert annotations.read_bytes() == before and (folder / 'mine.html').read_text().endswith('notes')


def test_a_read_only_folder_is_named_before_the_work(folder, monkeypatch):
    write_yolo(folder / 'pets', 6, 3)

    def refuse(**_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('tempfile.TemporaryFile', refuse)
    monkeypatch.setattr('rtmdet_plugin.doctor.examine.examine', lambda *_: pytest.fail('the work was begun'))
    for option in ('--json=found.json', '--page=found.html'):
        assert 'can not be written' in run('pets', option, code=1).stderr


def test_ctrl_c_ends_the_decoding(folder, monkeypatch):
    """Images that were not begun are not decoded any more, wherever the signal arrives."""
    write_yolo(folder / 'pets', 40)
    decoded = []

    def slow(image):
        decoded.append(image)
        time.sleep(0.01)

    def interrupted(items, **_):
        yield next(items)
        raise KeyboardInterrupt

    monkeypatch.setattr(images, '_fault', slow)
    monkeypatch.setattr(doctor, 'show_progress', lambda: contextlib.nullcontext(interrupted))
    assert run('pets', '--deep', code=130).stderr == 'Interrupted\n'
    assert len(decoded) < 20


def test_speed_of_the_loader_and_the_step(shapes, monkeypatch):
    monkeypatch.setenv('RTMDET_DEMO_DATA', str(shapes))
    monkeypatch.setattr(speed, 'SECONDS', 0.01)
    monkeypatch.setattr(speed, 'STEPS', 1)
    options = ['train_dataloader.num_workers=0', 'train_dataloader.batch_size=2']
    changes = [word for change in options for word in ('--cfg-options', change)]
    printed = ' '.join(run(str(SHAPES_CONFIG), '--speed', *changes).stdout.split())
    assert re.search(
        r'data loader [\d.]+ images/s with 0 workers training step [\d.]+ images/s with a batch of 2', printed
    )
    assert re.search(r'speed: the (training step|data loader) is the limit: ', printed)


def test_the_speed_of_a_refused_dataset_is_not_measured(folder):
    write_yolo(folder / 'pets', 2)
    for file in (folder / 'pets' / 'labels' / 'train').iterdir():
        file.write_text('')
    assert 'speed: it is not measured: pets/data.yaml must have objects' in run('pets', '--speed').stdout


def test_the_slower_part_is_named():
    fast = speed.Speed(loader=100.0, step=10.0, workers=1, batch=4).finding()
    slow = speed.Speed(loader=10.0, step=100.0, workers=0, batch=4).finding()
    assert fast.severity == 'note' and 'the training step is the limit: it takes 10.0' in fast.text
    assert slow.severity == 'warning' and 'use more workers (train_dataloader.num_workers=' in slow.text


def test_the_packages_are_listed_if_the_stack_is_refused(monkeypatch):
    monkeypatch.setattr(doctor, 'versions', lambda: {'torch': '1.0'})
    monkeypatch.setitem(sys.modules, 'rtmdet_plugin.version', None)
    assert run(code=1).stderr.splitlines()[0] == 'torch 1.0'
