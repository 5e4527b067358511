"""`rtmdet val`: on a trained model, on models without a network, and what it refuses."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from labelled_data import CLASSES, HEIGHT, WIDTH, write_coco, write_yolo
from mmdet.evaluation.metrics import coco_metric
from model_info import INFO
from samples import CLASSES as SHAPES
from samples import SHAPES_CONFIG, SHAPES_WEIGHTS, assert_same_ap

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

from rtmdet_cli.main import main  # noqa: E402
from rtmdet_runtime import Detections, RTMDetector  # noqa: E402
from rtmdet_runtime.masks import Masks  # noqa: E402

BOX = [0, 0, 48, 36]  # in the input of 96x64 pixels; the images have 80x60, so it is 45x33.75 pixels
NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def val(*arguments, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ['val', *map(str, arguments)])
    assert done.exit_code == code, f'{done.output}\n{done.exception!r}'
    return done


def refused(*arguments) -> str:
    """Return the one line of an error."""
    line = val(*arguments, code=1).stderr.splitlines()[-1]
    assert line.startswith('Error: ')
    return line.removeprefix('Error: ')


# A trained model ------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(shapes, tmp_path, monkeypatch) -> Path:
    """The working folder; the demo's config has `shapes` as its data."""
    monkeypatch.setenv('RTMDET_DEMO_DATA', str(shapes))
    monkeypatch.chdir(tmp_path)
    return shapes


@pytest.fixture(scope='module')
def exported(shapes, shapes_checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('exported') / 'm.onnx'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('RTMDET_DEMO_DATA', str(shapes))
        arguments = ['export', SHAPES_CONFIG, shapes_checkpoint, '-o', path, '--opset', '17']
        assert CliRunner().invoke(main, [*map(str, arguments)]).exit_code == 0
    return path


def test_the_ap_of_rtmdet_test(demo, exported, monkeypatch):
    """From an annotation file and from a config; mmdet's metric rounds its numbers, but not in `stats`."""
    stats = []

    class Recorder(coco_metric.COCOeval):
        def summarize(self) -> None:
            super().summarize()
            stats.append(self.stats)

    monkeypatch.setattr(coco_metric, 'COCOeval', Recorder)
    tested = CliRunner().invoke(main, ['test', str(SHAPES_CONFIG), str(exported)])
    assert tested.exit_code == 0 and len(stats) == 1, tested.output
    for data in (demo / 'val.json', SHAPES_CONFIG):
        printed = val(exported, data, '--json', 'a.json').stdout
        found = json.loads(Path('a.json').read_text())
        names = ('AP', 'AP50', 'AP75', 'AP_small', 'AP_medium', 'AR')  # AR with 100 boxes
        assert [found[name] for name in names] == pytest.approx([stats[0][i] for i in (0, 1, 2, 3, 4, 8)], abs=1e-6)
        assert found['AP_large'] is None and 0.7 < found['AP'] < 0.9
        assert (
            f'\n{found["AP"]:.3f}  {found["AP50"]:.3f}  ' in printed
            and list(SHAPES) == found['confusion']['classes'][:4]
        )


def test_a_work_directory(demo, exported, shapes_checkpoint, shapes_config):
    """As MODEL, and as DATA; its best checkpoint is damaged, so the last one is used."""
    work = Path('run')
    work.mkdir()
    shapes_config({'val_dataloader.dataset.indices': 8}).dump(work / 'demo.py')
    shutil.copy(shapes_checkpoint, work / 'epoch_1.pth')
    (work / 'last_checkpoint').write_text(str((work / 'epoch_1.pth').resolve()))
    (work / 'best_coco_bbox_mAP_epoch_1.pth').write_bytes(b'damaged')
    trained, deployed = numbers(work), numbers(exported, work)
    assert trained['images'] == deployed['images'] == 8 and trained['AP'] > 0.5
    names = ('AP', 'AP50', 'AP75', 'AP_small', 'AP_medium')
    assert_same_ap(*({f'coco/bbox_m{name}': found[name] for name in names} for found in (trained, deployed)))


def test_a_checkpoint(demo, shapes_config, tmp_path):
    """Its config is given, or DATA, or in its work directory."""
    shapes_config({'test_dataloader.dataset.indices': 3}).dump(tmp_path / 'demo.py')
    expected = numbers(SHAPES_WEIGHTS, tmp_path / 'demo.py')
    assert expected['images'] == 3
    assert numbers(SHAPES_WEIGHTS, tmp_path / 'demo.py', '--config', SHAPES_CONFIG) == expected
    (tmp_path / 'last_checkpoint').touch()
    shutil.copy(SHAPES_WEIGHTS, tmp_path / 'w.safetensors')
    assert {**numbers('w.safetensors', '--split', 'test'), 'model': str(SHAPES_WEIGHTS)} == expected


def numbers(*arguments) -> dict:
    """Return the numbers that are written to standard output as JSON."""
    return json.loads(val(*arguments, '--json', '-').stdout)


def test_models_without_data_or_config(demo, exported, shapes_checkpoint):
    assert refused(exported) == 'DATA must be given unless MODEL is a work directory or a checkpoint in it, got none'
    assert 'must be that of the model in' in refused(shapes_checkpoint, demo / 'val.json')
    assert refused(demo / 'val').startswith(f'{demo / "val"} must be the work directory of a training')
    Path('a.py').touch(), Path('b.py').touch()
    assert 'must have one config, got a.py, b.py; choose one with --config' in refused('.')
    said = refused('.', SHAPES_CONFIG)
    assert said == '. must have a checkpoint (best_*.pth, epoch_*.pth), got none'
    assert 'must be an exported model for --backend, got' in refused(shapes_checkpoint, '--backend', 'onnxruntime')
    assert 'must be a checkpoint for --device, got' in refused(exported, '--device', 'cpu')
    assert 'MODEL must be a work directory, or end in one of .engine,' in refused('a.txt')
    assert 'no such model' in refused('gone.onnx', demo / 'val.json')
    said = refused(exported, 'gone')
    assert said == 'gone: no such file or folder'


def test_splits_of_a_config(demo, exported, tmp_path):
    config = tmp_path / 'part.py'
    config.write_text(f'_base_ = {str(SHAPES_CONFIG)!r}\nval_dataloader = None\nval_cfg = None\nval_evaluator = None\n')
    assert 'part.py must have val_dataloader, got only train, test' in refused(exported, config, '--split', 'val')
    config.write_text(f'_base_ = {str(SHAPES_CONFIG)!r}\ntest_dataloader = dict(dataset=dict(indices=3))\n')
    assert numbers(exported, config)['images'] == 3


# Models without a network ---------------------------------------------------------------------------------------------


@pytest.fixture
def pets(constant_model, tmp_path, monkeypatch) -> Path:
    """The working folder with `model.onnx`, which finds a cat in each image, and `pets`, a dataset of cats and dogs."""
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / 'pets', 6, 4)
    for path in (tmp_path / 'pets' / 'valid').glob('*.json'):
        content = json.loads(path.read_text())
        for i, annotation in enumerate(content['annotations']):
            annotation['bbox'] = [0, 0, 45, 34] if i % 2 else [40, 30, 20, 20]
        path.write_text(json.dumps(content))
    constant_model([BOX], [[0.9, 0]])
    return tmp_path


def annotations(folder: Path) -> Path:
    (path,) = (folder / 'pets' / 'valid').glob('*.json')
    return path


def test_files_and_tables(pets):
    """Of 4 images, the second and fourth have an object at the place of the box."""
    before = {path: path.read_bytes() for path in pets.rglob('*') if path.is_file()}
    printed = val('model.onnx', 'pets', '--json', 'a.json', '--csv', 'a.csv').stdout
    assert {path: path.read_bytes() for path in before} == before
    found = json.loads(Path('a.json').read_text())
    assert (found['images'], found['model'], found['bad_images'], found['skipped']) == (4, 'model.onnx', [], [])
    rows = {row['name']: row for row in found['classes']}
    assert list(rows) == list(CLASSES) and rows['dog']['precision'] is None and rows['dog']['AP'] == 0
    correct = found['confusion']['matrix'][0][0]
    assert rows['cat']['precision'] == correct / 4 and rows['cat']['recall'] == correct / rows['cat']['objects']
    assert 0 < rows['cat']['score_thr'] < 0.9 and found['confusion']['classes'] == ['cat', 'dog', 'background']
    with open('a.csv') as file:
        table = list(csv.DictReader(file))
    assert [row['class'] for row in table] == list(CLASSES) and float(table[0]['AP']) == rows['cat']['AP']
    assert table[1]['precision'] == '' and list(table[0])[1:] == list(rows['cat'])[1:]
    lines = [line.split() for line in printed.splitlines()]
    assert ['class', *list(table[0])[1:]] in lines
    cat = next(line for line in lines if line[:1] == ['cat'])
    assert cat[1:3] == [str(rows['cat']['images']), str(rows['cat']['objects'])]
    assert cat[5:8] == [f'{rows["cat"][name]:.3f}' for name in ('precision', 'recall', 'F1')]
    assert ['object', '\\', 'detected', 'as', 'cat', 'dog', 'background'] in lines
    val('model.onnx', 'pets', '--json', 'a.json', '--csv', 'a.csv')  # replaces its own results
    strict = numbers('model.onnx', 'pets', '--iou-thr', '1')
    assert strict['AP'] == found['AP'] and strict['recall'] is None and strict['confusion'] is None
    above = numbers('model.onnx', 'pets', '--score-thr', '0.95')
    assert above['recall'] == 0 and above['AP'] == found['AP'] and above['confusion']['score_thr'] == 0.95
    assert [row['score_thr'] for row in above['classes']] == [0.95, 0.95]


def test_classes_by_name(pets, constant_model):
    """In another order; with one that the data doesn't have; without one that it has; without names."""
    expected = numbers('model.onnx', 'pets')
    info = replace(INFO, classes=('cow', 'dog', 'cat'))
    constant_model([BOX], [[0.95, 0, 0.9]], properties=info.to_properties())
    done = val('model.onnx', 'pets', '--json', '-')
    assert json.loads(done.stdout) == expected
    assert 'classes of the model that the data does not have are not evaluated: cow' in done.stderr
    constant_model([BOX], [[0.9]], properties=replace(INFO, classes=('cat',)).to_properties())
    said = refused('model.onnx', 'pets')
    assert (
        'classes of the data (cat, dog), got no dog among its classes (cat); rename them in the data, or choose' in said
    )
    alone = numbers('model.onnx', 'pets', '--classes', 'cat')
    assert alone['classes'] == expected['classes'][:1] and alone['AP'] == 2 * expected['AP']
    assert refused('model.onnx', 'pets', '--classes', 'cat,cow') == '--classes must be among cat, dog, got cow'
    constant_model([BOX], [[0.9, 0]], properties=replace(INFO, classes=('class 0', 'class 1')).to_properties())
    assert numbers('model.onnx', 'pets') == expected
    constant_model([BOX], [[0.9]], properties=replace(INFO, classes=('class 0',)).to_properties())
    assert 'the 2 classes of the data (cat, dog), got 1 classes without names' in refused('model.onnx', 'pets')


def test_bad_images_are_listed_and_their_objects_are_missed(pets):
    before = numbers('model.onnx', 'pets')
    images = sorted(Path('pets', 'valid').glob('*.png'))
    images[0].write_bytes(b'no image')
    cv2.imwrite(str(images[1]), np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
    done = val('model.onnx', 'pets', '--json', '-', code=1)
    found = json.loads(done.stdout)
    assert [len(found['bad_images']), found['objects']] == [2, before['objects']]
    assert found['recall'] <= before['recall'] and found['images'] == 4
    lines = done.stderr.splitlines()
    assert lines[-1] == 'Error: bad images: 2 of 4, listed above; their objects count as missed'
    assert f'{images[0]} must be an image that OpenCV can decode, got 8 bytes that are no image.' in done.stderr
    assert f'{images[1]} must have the size of its annotation, 80x60' in done.stderr


def test_skipped_samples_are_listed(pets):
    sorted((pets / 'pets' / 'train').glob('*.png'))[0].unlink()
    said = refused('model.onnx', 'pets')
    assert 'must have at most 5% bad samples, got 1 of 10' in said
    write_yolo(pets / 'more', 30, 20)
    label = sorted((pets / 'more' / 'labels' / 'val').iterdir())[0]
    label.write_text('7 0.5 0.5 0.1 0.1\n')
    done = val('model.onnx', 'more', '--json', '-')
    found = json.loads(done.stdout)
    assert found['images'] == 19 and len(found['skipped']) == 1 and f'{label}:1' in found['skipped'][0]
    assert '1 samples of more, listed above, are not evaluated' in done.stderr
    assert 'not evaluated' not in val('model.onnx', 'more', '--split', 'train').stderr, 'only the split counts'


def test_splits_of_a_dataset(pets):
    assert numbers('model.onnx', 'pets', '--split', 'train')['images'] == 6
    assert refused('model.onnx', 'pets', '--split', 'test') == "pets must have a split 'test', got only train, val"
    assert numbers('model.onnx', annotations(pets))['images'] == 4
    said = refused('model.onnx', annotations(pets), '--split', 'val')
    assert said == '--split must not be given for an annotation file, of which all is used, got val'
    shutil.rmtree(pets / 'pets' / 'train')  # only a validation split
    assert numbers('model.onnx', 'pets')['images'] == 4


def test_names_are_no_markup(pets, constant_model):
    """Square brackets, commas, quotes, Unicode, and half of a character."""
    names = ('[bold]a, "b"', 'Bär :smile:\ud83d')
    for file in (annotations(pets), next((pets / 'pets' / 'train').glob('*.json'))):
        content = json.loads(file.read_text())
        for category, name in zip(content['categories'][1:], names, strict=True):
            category['name'] = name
        file.write_text(json.dumps(content))
    constant_model([BOX], [[0.9, 0]], properties=replace(INFO, classes=names).to_properties())
    printed = val('model.onnx', 'pets', '--csv', 'a.csv').stdout
    shown = [name.replace('\ud83d', '?') for name in names]
    assert all(name in printed for name in shown)
    with open('a.csv', encoding='utf-8') as file:
        assert [row['class'] for row in csv.DictReader(file)] == shown


def test_a_model_that_finds_nothing(pets, constant_model):
    constant_model([BOX], [[0, 0]])
    done = val('model.onnx', 'pets', '--json', '-')
    found = json.loads(done.stdout)
    assert (found['AP'], found['score_thr'], found['confusion']) == (0, None, None) and found['errors']['missed'] == 1
    assert 'No detection is correct, so there is no best score threshold.' in done.stderr


def test_ap_of_masks(pets, monkeypatch):
    """The mask is that of less than half of the box: it is wrong at an IoU of 0.5, and the box is right."""
    array = np.zeros((1, HEIGHT, WIDTH), bool)
    array[:, :16, :45] = True
    box = np.array([[0, 0, 45, 34]], np.float32)
    found = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), masks=Masks.from_arrays(array))
    detector = RTMDetector('model.onnx')
    detector.info = replace(INFO, mask_stride=8)
    monkeypatch.setattr('rtmdet_plugin.inference.open_for_map.RTMDetector', lambda *_, **__: detector)
    monkeypatch.setattr('rtmdet_plugin.inference.open_for_map.use_thresholds', lambda detector, cfg: detector)
    monkeypatch.setattr(RTMDetector, 'predict', lambda self, images, batch_size: [found] * len(images))

    done = val('model.onnx', 'pets', '--json', 'a.json', '--csv', 'a.csv')
    assert 'mask' not in Path('a.json').read_text() + Path('a.csv').read_text() + done.stdout
    count = len(json.loads(annotations(pets).read_text())['annotations'])
    assert done.stderr.splitlines()[-1] == (
        f'AP is that of boxes only, because objects have no mask to compare with: {count} have no segmentation'
    )

    content = json.loads(annotations(pets).read_text())
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['segmentation'] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    annotations(pets).write_text(json.dumps(content))
    printed = val('model.onnx', 'pets', '--json', 'a.json', '--csv', 'a.csv').stdout
    numbers = json.loads(Path('a.json').read_text())
    assert numbers['AP50'] > 0.1 and numbers['mask_AP50'] == 0 and numbers['classes'][0]['mask_AP50'] == 0
    lines = [line.split() for line in printed.splitlines()]
    assert [line[0] for line in lines[1:3]] == ['boxes', 'masks'] and lines[2][2] == '0.000'
    assert lines[4][:7] == ['class', 'images', 'objects', 'AP', 'AP50', 'mask_AP', 'mask_AP50']
    with open('a.csv') as file:
        assert next(csv.DictReader(file))['mask_AP50'] == '0.0'


def test_thresholds_in_a_graph(pets, constant_model, monkeypatch):
    """AP is measured with all boxes, unless NMS is part of the graph, which can't be changed."""
    constant_model([BOX], [[0.05, 0]])
    assert INFO.score_thr > 0.05 and numbers('model.onnx', 'pets')['AP'] > 0
    assert 'thresholds' not in val('model.onnx', 'pets').stderr
    with_nms = RTMDetector('model.onnx')
    with_nms.backend.info = with_nms.info = replace(INFO, form='nms')
    monkeypatch.setattr('rtmdet_plugin.inference.open_for_map.RTMDetector', lambda *_, **__: with_nms)
    monkeypatch.setattr(RTMDetector, 'predict', lambda self, images, batch_size: [NOTHING] * len(images))
    said = val('model.onnx', 'pets').stderr
    assert 'thresholds in the graph (score 0.1, iou 0.6, max_per_img 10); export the model with --for-map' in said
