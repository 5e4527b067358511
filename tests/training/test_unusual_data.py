"""Unusual data, names, paths and disks: `rtmdet train` works, or refuses them and leaves no work directory."""

import errno
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from labelled_data import OBJECT, XML, write_coco, write_csv, write_voc, write_yolo
from mmengine.config import Config

from rtmdet_cli.main import main
from rtmdet_plugin.datasets import RTMCocoDataset
from rtmdet_plugin.training import prepare as prepare_module
from rtmdet_plugin.training.formats.find_format import read_dataset


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with spaces and Unicode in its path."""
    path = tmp_path / "my work 'ü' 🐈"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    return path


def dry_run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ['train', *arguments, '--model', 'nano', '--weights', 'none', '--dry-run'])
    assert done.exit_code == code, f'{done.output}\n{done.exception!r}'
    if code == 0:
        return done.stdout
    assert len(done.stderr.splitlines()) == 1 and not list(Path('work_dirs').glob('*'))
    return done.stderr


def config_of(name: str) -> Config:
    return Config.fromfile(f'work_dirs/{name}/input/{name}.py')


def training_images(config: Config) -> RTMCocoDataset:
    settings = dict(config.train_dataloader.dataset, pipeline=[])
    settings.pop('type')
    return RTMCocoDataset(**settings)


def test_images_without_objects_are_trained_on(folder):
    write_yolo(folder / 'pets', 8, 4)
    (folder / 'pets' / 'labels' / 'train' / 'a 1.txt').unlink()
    (folder / 'pets' / 'labels' / 'train' / 'a 3.txt').write_text('')
    printed = dry_run('pets')
    assert 'Background: 2 of 8 training images have no objects' in printed
    config = config_of('pets_1')
    assert len(training_images(config)) == 8
    assert re.search(rf'^  epochs +\S+ +{-(-8 // config.train_dataloader.batch_size)} steps', printed, re.MULTILINE)


def test_images_without_an_object_of_the_chosen_classes_are_background(folder):
    write_yolo(folder / 'pets', 8, 4)
    assert 'Background: 4 of 8 training images' in dry_run('pets', '--classes', 'dog')
    images = training_images(config_of('pets_1'))
    assert len(images) == 8 and sum(not images.get_data_info(i)['instances'] for i in range(8)) == 4


@pytest.mark.parametrize('classes', ['dog', 'bird'])
def test_classes_without_objects_are_refused(classes, folder):
    write_yolo(folder / 'pets', 3, 3)
    for file in (folder / 'pets' / 'labels' / 'val').iterdir():
        file.write_text('0 .5 .5 .2 .2')
    assert re.match(
        'Error: (val must have objects of dog|classes must be among)', dry_run('pets', '--classes', classes, code=1)
    )


@pytest.mark.parametrize('write', [write_coco, write_voc])
def test_an_image_whose_only_box_shows_nothing_is_no_background(write, folder):
    write(folder, 6)
    if write is write_coco:
        content = json.loads((folder / 'all.json').read_text())
        content['annotations'][0]['bbox'] = [200, 200, 9, 9]
        (folder / 'all.json').write_text(json.dumps(content))
    else:
        objects = OBJECT.format('cat', 200, 200, 209, 209)
        (folder / 'Annotations' / 'a 0.xml').write_text(
            XML.format(name='a 0.png', width=80, height=60, objects=objects)
        )
    dataset = read_dataset(folder)
    assert len(dataset.splits['train'].content['images']) == 5 and dataset.splits['train'].file is None
    assert 'train: 1 images have no box but such that are less than a pixel wide' in dataset.notes[-1]


NAMES = ("it's", 'a "cat"', "'); raise SystemExit(1) #", 'two\nlines', 'back\\slash', '🐈 Kätzchen', '# {no} %s')


def test_class_names_are_text_in_the_config_whatever_they_contain(folder):
    write_yolo(folder / 'pets', 8, 4)
    yaml = folder / 'pets' / 'data.yaml'
    yaml.write_text(f'train: images/train\nval: images/val\nnames: {json.dumps(NAMES, ensure_ascii=False)}')
    dry_run('pets')
    config = config_of('pets_1')
    assert config.train_dataloader.dataset.metainfo.classes == NAMES == training_images(config).metainfo['classes']
    config.dump('complete.py')
    assert Config.fromfile('complete.py').val_dataloader.dataset.metainfo.classes == NAMES


@pytest.mark.parametrize('name', ["{{$A:'+str(1/0)+'}}", '{{ fileBasename }}'])
def test_a_name_that_mmengine_would_replace_in_the_config_is_refused(name, folder):
    write_yolo(folder / 'pets', 8, 4)
    (folder / 'pets' / 'data.yaml').write_text(
        f'train: images/train\nval: images/val\nnames: {json.dumps([name, "b"])}'
    )
    assert 'names and paths must be without' in dry_run('pets', code=1)


def test_a_path_that_is_no_text_is_refused(folder):
    write_csv(folder / 'pets\udcff', 8, 4)
    assert 'names and paths must be valid Unicode' in dry_run('pets\udcff', code=1)


def test_class_names_that_differ_in_case_are_noted(folder):
    write_yolo(folder / 'pets', 8, 4)
    (folder / 'pets' / 'data.yaml').write_text('train: images/train\nval: images/val\nnames: [cat, "Cat "]')
    assert "Note: the classes 'cat' and 'Cat ' differ only in case or spaces" in dry_run('pets')


def test_a_single_image(folder):
    write_csv(folder / 'pets', 1)
    assert 'must have at least 2 images, to train and to validate, got 1' in dry_run('pets', code=1)
    write_csv(folder / 'both', 1, 1)
    dry_run('both')
    assert config_of('both_1').train_dataloader.batch_size == 4


@pytest.mark.parametrize('kind', ['coco', 'yolo', 'csv'])
def test_an_empty_validation_split_is_named(kind, folder):
    if kind == 'coco':
        write_coco(folder / 'pets', 4, 2)
        file = folder / 'pets' / 'valid' / '_annotations.coco.json'
        file.write_text(json.dumps({**json.loads(file.read_text()), 'images': [], 'annotations': []}))
    elif kind == 'yolo':
        write_yolo(folder / 'pets', 4, 2)
        for image in (folder / 'pets' / 'images' / 'val').iterdir():
            image.unlink()
    else:
        write_csv(folder / 'pets', 4, 2)
        (folder / 'pets' / 'val_labels.csv').write_text('filename,width,height,class,xmin,ymin,xmax,ymax\n')
    assert re.search(r'pets/\S*val\S*:? .*must have .*, got none', dry_run('pets', code=1))


def test_copies_of_a_single_image_are_split_with_a_note(folder):
    write_csv(folder / 'pets', 6)
    images = sorted((folder / 'pets' / 'images' / 'train').iterdir())
    for image in images[1:]:
        shutil.copy(images[0], image)
    assert '1 of 6 images were taken for it (seed 0); all images look alike, so both splits' in dry_run('pets')


def test_the_data_may_be_in_the_working_folder(folder):
    """Its work directories are no data, and are continued from within as well."""
    write_yolo(folder, 8, 4, yaml=False)
    assert dry_run('.').splitlines()[0] == dry_run('.').splitlines()[0]
    name = sorted(path.name for path in Path('work_dirs').iterdir())[0]
    done = CliRunner().invoke(main, ['train', f'work_dirs/{name}'])
    assert done.exit_code == 1 and 'got the work directory of a run; continue it with --resume' in done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / 'work_dirs' / name)
        done = CliRunner().invoke(main, ['train', '.', '--resume', '--dry-run'])
    assert done.exit_code == 0 and f'{name}/input/{name}.py' in done.stdout and '--resume' in done.stdout


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_work_directory_that_can_not_be_written_is_named(code, folder, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(code, 'no luck')

    write_yolo(folder / 'pets', 8, 4)
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, 'write_atomically', fail) if code == errno.ENOSPC else patch.setattr(
            Path, 'mkdir', fail
        )
        error = dry_run('pets', code=1)
    assert 'work_dirs can not be written: no luck; free space, change its permissions, or run' in error
    assert not Path('work_dirs').exists()


def test_a_file_in_the_place_of_the_work_directories_is_named(folder):
    write_yolo(folder / 'pets', 8, 4)
    Path('work_dirs').touch()
    assert 'work_dirs can not be written: File exists' in dry_run('pets', code=1)
