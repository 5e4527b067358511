"""The doctor finds what is wrong with a dataset, in each format, and goes on where training would stop."""

import json
import os
import shutil

import cv2
import pictures
import pytest
from labelled_data import WRITERS, write_coco, write_csv, write_voc, write_yolo
from mmengine.config import Config

from rtmdet_plugin.doctor.classes import check_balance
from rtmdet_plugin.doctor.copies import same_content
from rtmdet_plugin.doctor.examine import examine
from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.training.formats.find_format import read_dataset


def findings(data, **options) -> dict:
    """Findings by kind, without those that only say that the generated images are small."""
    found = {finding.kind: finding for finding in examine(str(data), **options).findings}
    return {kind: finding for kind, finding in found.items() if kind not in ('small objects', 'huge boxes')}


@pytest.mark.parametrize('kind', WRITERS)
def test_sound_data_has_no_finding(kind, tmp_path):
    WRITERS[kind](tmp_path, 12, 6)
    found = examine(str(tmp_path), deep=True)
    assert [finding for finding in found.findings if finding.kind != 'dataset'] == []
    assert found.facts['images'] == '12 train, 6 val' and found.facts['objects'] == '18 train, 9 val'
    assert found.facts['classes'].startswith('cat (') and found.facts['input size'] == '192 px'


@pytest.mark.parametrize('kind', WRITERS)
def test_each_broken_image_is_listed_though_training_refuses_them(kind, tmp_path):
    WRITERS[kind](tmp_path, 6, 2)
    broken = sorted(path for path in tmp_path.rglob('*.png') if '0' not in path.stem)[:4]
    for place, path in enumerate(broken):
        path.write_bytes(b'no image %d' % place)
    with pytest.raises(RefusedError, match='bad samples') if kind != 'coco' else pytest.MonkeyPatch.context():
        read_dataset(tmp_path)  # COCO JSON has the sizes, so that images are not opened
    found = findings(tmp_path)
    assert found['bad samples'].severity == 'error' and '4 of 8 images' in found['bad samples'].text
    listed = ' '.join(item.file + item.text for item in found['bad samples'].items)
    assert len(found['bad samples'].items) == 4 and all(str(path) in listed for path in broken)


def test_only_decoding_finds_truncated_images(tmp_path):
    write_coco(tmp_path, 6)
    image = tmp_path / 'images' / 'a 2.png'
    image.write_bytes(image.read_bytes()[:-20])
    assert 'bad samples' not in findings(tmp_path)
    (item,) = findings(tmp_path, deep=True)['bad samples'].items
    assert item.file == str(image) and 'truncated' in item.text


def test_unusual_image_formats(tmp_path):
    """16-bit, CMYK and animated images are used; HEIC isn't."""
    names = ['cmyk jpeg', '16-bit png', 'animated gif', 'palette png', 'animated webp']
    folder = tmp_path / "bild 'ü' 🐈"
    folder.mkdir()
    for name in names:
        (folder / f'{name}.{name.split()[-1]}').write_bytes(pictures.GOOD[name])
    (folder / 'phone.heic').write_bytes(b'\0\0\0\x18ftypheic')
    size = dict(zip(('width', 'height'), pictures.SIZE, strict=True))
    files = sorted(path.name for path in folder.iterdir())
    content = dict(
        images=[dict(id=i, file_name=name, **size) for i, name in enumerate(files)],
        annotations=[dict(id=i + 1, image_id=i, category_id=0, bbox=[24, 16, 40, 32]) for i in range(len(files))],
        categories=[dict(id=0, name='red')],
    )
    (folder / 'all.json').write_text(json.dumps(content))
    (item,) = findings(folder, deep=True)['bad samples'].items
    assert item.file == str(folder / 'phone.heic') and 'convert it to .jpg' in item.text


def test_boxes_that_are_not_used_are_listed_in_every_format(tmp_path):
    for write in (write_coco, write_voc, write_csv):
        root = tmp_path / write.__name__
        write(root, 30)
        if write is write_coco:
            content = json.loads((root / 'all.json').read_text())
            for place in (0, 1):  # the only box of an image, and one of two
                content['annotations'][place]['bbox'] = [200, 200, 9, 9]
            content['annotations'][3]['bbox'] = [1, 1, float('nan'), 9]
            (root / 'all.json').write_text(json.dumps(content))
        elif write is write_voc:
            file = root / 'Annotations' / 'a 0.xml'
            file.write_text(file.read_text().replace('<ymax>', '<ymax>9').replace('<ymin>', '<ymin>9'))
        else:
            with (root / 'train_labels.csv').open('a') as file:
                file.write('a 0.png,80,60,cat,5,5,5.5,9\n')
        found = findings(root)
        item, *others = found['unusable boxes'].items
        assert len(others) == (write is write_coco) and 'boxes past the border' not in found
        assert item.file.endswith('a 0.png') and item.box is not None
        assert (item.annotation == 1) == (write is write_coco)
        assert ('bad samples' in found) == (write is write_coco), 'the box of NaN'
        assert 'images without annotations' not in found
        dataset = read_dataset(root)
        assert any('boxes are less than a pixel' in note for note in dataset.notes), 'train says so, too'


def test_copies_within_and_across_splits(tmp_path):
    write_yolo(tmp_path, 6, 3)
    train, val = tmp_path / 'images' / 'train', tmp_path / 'images' / 'val'
    shutil.copy(train / 'a 0.png', train / 'copy.png')
    os.link(train / 'a 1.png', val / 'link.png')
    img = cv2.imread(str(train / 'a 2.png'))
    cv2.imwrite(str(val / 'again.jpg'), img, (cv2.IMWRITE_JPEG_QUALITY, 95))
    found = findings(tmp_path)
    assert [item.file for item in found['duplicates'].items] == [str(train / 'copy.png')]
    (leak,) = found['leak'].items
    assert found['leak'].severity == 'error' and (leak.file, leak.other) == (
        str(val / 'link.png'),
        str(train / 'a 1.png'),
    )
    assert 'near-leak' not in found
    (near,) = findings(tmp_path, deep=True)['near-leak'].items
    assert (near.file, near.other) == (str(val / 'again.jpg'), str(train / 'a 2.png'))


def test_files_are_the_same_only_if_every_byte_is(tmp_path):
    contents = [b'a' * 9000, b'b' + b'a' * 8999, b'a' * 9000, b'a' * 8999 + b'b', b'', b'']
    files = [tmp_path / str(i) for i in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert sorted(same_content([*map(str, files), str(tmp_path / 'missing')])) == [[0, 2], [4, 5]]


def test_classes(tmp_path):
    write_yolo(tmp_path, 6, 3)
    (tmp_path / 'data.yaml').write_text(
        f'path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: [cat, "Cat ", bird]'
    )
    found = findings(tmp_path)
    assert "'cat' and 'Cat '" in found['class names'].text
    assert found['classes without objects'].severity == 'warning' and 'bird' in found['classes without objects'].text


def test_imbalance():
    (found,) = check_balance(['a', 'b', 'c', 'd'], [1000, 11, 10, 0])
    assert '1 of 4 classes' in found.text and 'objects of a (1000): c (10)' in found.text


def test_files_without_their_counterpart(tmp_path):
    write_yolo(tmp_path, 6)
    (tmp_path / 'labels' / 'train' / 'a 1.txt').unlink()
    (tmp_path / 'images' / 'train' / 'a 3.png').unlink()
    found = findings(tmp_path)
    assert [item.file[-7:] for item in found['images without objects'].items] == ['a 1.png']
    assert [item.file[-7:] for item in found['unused files'].items] == ['a 3.txt']
    write_coco(tmp_path / 'coco', 6)
    content = json.loads((tmp_path / 'coco' / 'all.json').read_text())
    content['images'].pop()
    (tmp_path / 'coco' / 'all.json').write_text(json.dumps(content))
    found = findings(tmp_path / 'coco')
    assert [item.file[-7:] for item in found['images without annotations'].items] == ['a 5.png']
    assert '2 annotations belong to images that are not in the file' in found['annotations without images'].text
    dataset = read_dataset(tmp_path / 'coco')
    assert len(dataset.splits['train'].content['annotations']) == 7 and '2 annotations' in dataset.notes[-1]


@pytest.mark.parametrize('case', ['no images', 'empty folder', 'two formats', 'no objects', 'only val'])
def test_what_can_not_be_trained_on_is_one_error(case, tmp_path):
    kind = 'unreadable'
    if case == 'no images':
        write_coco(tmp_path, 3)
        shutil.rmtree(tmp_path / 'images')
    elif case == 'two formats':
        write_yolo(tmp_path, 2)
        write_csv(tmp_path / 'b', 2)
    elif case == 'no objects':
        kind = 'refused'
        write_yolo(tmp_path, 2)
        for file in (tmp_path / 'labels' / 'train').iterdir():
            file.write_text('')
    elif case == 'only val':
        kind = 'refused'
        write_coco(tmp_path, 4, 2)
        shutil.rmtree(tmp_path / 'train')
    found = examine(str(tmp_path)).findings[0]
    assert (found.kind, found.severity) == (kind, 'error') and ' must ' in found.text
    with pytest.raises(RefusedError, match=' must '):
        read_dataset(tmp_path)


def test_the_data_of_a_config(tmp_path):
    """Also through wrappers; the test set is that of the validation, and no leak."""
    write_coco(tmp_path, 6, 3)
    (tmp_path / 'valid' / 'a 101.png').write_bytes(b'')
    data = dict(type='RTMCocoDataset', data_root=str(tmp_path), ann_file='train/_annotations.coco.json')
    data.update(data_prefix=dict(img='train/'), metainfo=dict(classes=('dog',)))
    val = dict(data, ann_file='valid/_annotations.coco.json', data_prefix=dict(img='valid/'))
    config = Config(
        dict(
            train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[data, dict(type='R', dataset=data)])),
            val_dataloader=dict(dataset=val),
            test_dataloader=dict(dataset=val),
            test_pipeline=[dict(type='Resize', scale=(96, 64), keep_ratio=False)],
        )
    )
    config.test_dataloader.dataset.pipeline = config.test_pipeline
    found = examine(config)
    assert found.facts['images'] == '12 train, 3 val' and found.facts['input size'] == '96 px'
    assert {finding.kind for finding in found.findings} >= {'duplicates', 'bad samples'}
    assert 'leak' not in {finding.kind for finding in found.findings}
    assert set(found.objects[0].labels.tolist()) == {0} and found.objects[0].images.max() == 11
    config.train_dataloader.dataset.datasets[0].ann_file = 'none.json'
    (found,) = examine(config).findings
    assert found.kind == 'unreadable' and 'ann_file of train_dataloader must be an annotation file' in found.text


def test_a_dataset_of_which_no_image_can_be_read(tmp_path):
    write_yolo(tmp_path, 3)
    for path in (tmp_path / 'images' / 'train').iterdir():
        path.write_bytes(b'')
    found = examine(str(tmp_path), deep=True, speed=True)
    assert found.facts['images'] == '0 train' and found.facts['image sizes'] == 'unknown'
    assert [finding.severity for finding in found.findings][:2] == ['error', 'error']
