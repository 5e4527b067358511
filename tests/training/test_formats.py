"""Each format is read as the same boxes; what is missing, faulty or ambiguous is named with file and line."""

import json
import re

import pytest
from labelled_data import CLASSES, OBJECT, WRITERS, XML, boxes_of, write_coco, write_csv, write_voc, write_yolo

from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.training.formats.find_format import read_dataset
from rtmdet_plugin.training.formats.split_names import split_name


@pytest.mark.parametrize('val', [0, 3])
@pytest.mark.parametrize('kind', WRITERS)
def test_every_format_is_read_as_the_same_boxes(kind, val, tmp_path):
    root = tmp_path / "my 'dätä'"
    written = WRITERS[kind](root, 6, val)
    dataset = read_dataset(root)
    assert not dataset.skipped and list(dataset.splits) == list(written)
    for split, expected in written.items():
        found = boxes_of(dataset.splits[split])
        assert list(found) == list(expected)
        for stem, boxes in expected.items():
            assert [box[0] for box in found[stem]] == [box[0] for box in boxes]
            assert [box[1:] for box in found[stem]] == [pytest.approx(box[1:], abs=0.02) for box in boxes]


def test_a_split_of_coco_keeps_its_file_if_all_of_it_can_be_used(tmp_path):
    write_coco(tmp_path, 30, 3)
    assert read_dataset(tmp_path).splits['train'].file == tmp_path / 'train' / '_annotations.coco.json'
    (tmp_path / 'train' / 'a 4.png').unlink()
    dataset = read_dataset(tmp_path)
    assert dataset.splits['train'].file is None and len(dataset.splits['train'].content['images']) == 29
    assert list(dataset.skipped) == [str(tmp_path / 'train' / 'a 4.png')]
    assert dataset.splits['val'].file is not None


def test_roboflows_class_for_the_group_is_dropped(tmp_path):
    write_coco(tmp_path, 4, 2)
    dataset = read_dataset(tmp_path)
    assert dataset.classes == CLASSES and 'pets' in dataset.notes[0]


@pytest.mark.parametrize('name', ['val.json', 'instances_val2017.json'])
def test_one_file_of_coco_has_the_images_of_the_split_in_its_name(name, tmp_path):
    """Both folders have images of these names."""
    write_coco(tmp_path, 4, 2)
    file = (tmp_path / 'valid' / '_annotations.coco.json').rename(tmp_path / name)
    for image in list((tmp_path / 'valid').glob('*.png')):
        (tmp_path / 'train' / image.name).write_bytes(b'')
    (split,) = read_dataset(file).splits.values()
    assert split.folder == tmp_path / 'valid'


def test_splits_of_coco_with_different_classes_get_the_same_ones(tmp_path):
    write_coco(tmp_path, 4, 2)
    file = tmp_path / 'valid' / '_annotations.coco.json'
    content = json.loads(file.read_text())
    content['categories'] = [dict(id=7, name='dog')]
    content['annotations'] = [{**item, 'category_id': 7} for item in content['annotations'] if item['category_id'] == 2]
    file.write_text(json.dumps(content))
    val = read_dataset(tmp_path).splits['val']
    assert [category['name'] for category in val.content['categories']] == ['cat', 'dog'] and val.file is None
    assert {box[0] for boxes in boxes_of(val).values() for box in boxes} == {'dog'}


def test_a_data_yaml_with_names_only_belongs_to_the_folders_next_to_it(tmp_path):
    """As supervision writes it."""
    write_yolo(tmp_path, 4, 2)
    (tmp_path / 'data.yaml').write_text('nc: 2\nnames: [a, b]\n')
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ('a', 'b')
    assert {name: len(split.content['images']) for name, split in dataset.splits.items()} == dict(train=4, val=2)


def test_a_dataset_without_data_yaml_has_its_names_in_a_text_file(tmp_path):
    write_yolo(tmp_path, 4, 2, yaml=False)
    assert read_dataset(tmp_path).classes == CLASSES
    (tmp_path / 'classes.txt').unlink()
    dataset = read_dataset(tmp_path / 'labels')
    assert dataset.classes == ('0', '1') and 'named by their ids' in dataset.notes[-1]


@pytest.mark.parametrize('names', ['names: [cat, dog]', 'names: {0: cat, 1: dog}', 'names:\n- cat\n- dog\nnc: 2'])
def test_paths_and_names_of_data_yaml(names, tmp_path):
    """Roboflow's paths begin with ../ but belong to the folder of the file."""
    write_yolo(tmp_path, 4, 2)
    (tmp_path / 'data.yaml').write_text(f'train: ../images/train\nval: [images/val]\n{names}\n')
    dataset = read_dataset(tmp_path / 'data.yaml')
    assert dataset.classes == CLASSES and {s: len(p.content['images']) for s, p in dataset.splits.items()} == {
        'train': 4,
        'val': 2,
    }


def test_a_validation_split_that_is_the_training_split_does_not_count(tmp_path):
    write_yolo(tmp_path, 4)
    (tmp_path / 'data.yaml').write_text('train: images/train\nval: images/train\nnames: [cat, dog]')
    assert list(read_dataset(tmp_path).splits) == ['train']


def test_images_without_labels_are_background_and_labels_without_images_are_counted(tmp_path):
    write_yolo(tmp_path, 4)
    (tmp_path / 'labels' / 'train' / 'a 1.txt').unlink()
    (tmp_path / 'images' / 'train' / 'a 3.png').unlink()
    dataset = read_dataset(tmp_path)
    assert boxes_of(dataset.splits['train'])['a 1'] == [] and not dataset.skipped
    assert dataset.notes[0] == 'train: 1 of 3 images have no labels and count as background'
    assert dataset.notes[1].startswith('train: 1 label files have no image') and 'a 3.txt' in dataset.notes[1]


def test_voc_files_with_other_names_than_their_images(tmp_path):
    write_voc(tmp_path, 4)
    (tmp_path / 'Annotations' / 'a 1.xml').rename(tmp_path / 'Annotations' / 'renamed.xml')
    assert len(boxes_of(read_dataset(tmp_path).splits['train'])) == 4
    stale = tmp_path / 'Annotations' / 'a 0.xml'
    stale.write_text(stale.read_text().replace('a 0.png', 'a 2.png'))
    assert 'a 0' in boxes_of(read_dataset(tmp_path).splits['train']), 'the name of the file comes first'


def test_a_folder_of_xml_files_next_to_the_images(tmp_path):
    expected = write_voc(tmp_path, 4)['train']
    (tmp_path / 'Annotations').rename(tmp_path / 'voc_xml')
    (tmp_path / 'JPEGImages').rename(tmp_path / 'images')
    assert list(boxes_of(read_dataset(tmp_path / 'voc_xml').splits['train'])) == list(expected)


def test_difficult_objects_of_voc_are_ignored(tmp_path):
    write_voc(tmp_path, 2)
    file = tmp_path / 'Annotations' / 'a 0.xml'
    file.write_text(file.read_text().replace('<bndbox>', '<difficult>1</difficult><bndbox>'))
    crowd = [item['iscrowd'] for item in read_dataset(tmp_path).splits['train'].content['annotations']]
    assert crowd == [1, 0, 0]


def test_boxes_without_area_are_dropped_and_counted(tmp_path):
    write_voc(tmp_path, 2)
    (tmp_path / 'Annotations' / 'a 0.xml').write_text(
        XML.format(name='a 0.png', width=80, height=60, objects=OBJECT.format('cat', 5, 5, 5, 9))
    )
    dataset = read_dataset(tmp_path)
    assert len(dataset.splits['train'].content['annotations']) == 2 and '1 of 3 boxes' in dataset.notes[0]


def _yaml(text):
    return lambda root: (root / 'data.yaml').write_text(text)


def _label(text):
    return lambda root: (root / 'labels' / 'train' / 'a 0.txt').write_text(text)


def _xml(width=80, objects=''):
    text = XML.format(name='a 0.png', width=width, height=60, objects=objects)
    return lambda root: (root / 'Annotations' / 'a 0.xml').write_text(text)


def _row(text):
    return lambda root: (root / 'train_labels.csv').open('a').write(text)


REFUSED = {
    'no such path': (write_yolo, _yaml('names: [a, b]\ntrain: pictures'), r'data\.yaml:2: pictures must be a folder'),
    'no train': (
        write_yolo,
        _yaml('val: images\nnames: [a, b]'),
        r"data\.yaml must have a split 'train', got only val",
    ),
    'no names': (write_yolo, _yaml('train: images'), r'data\.yaml:1: names must be a list or a mapping'),
    'nc': (write_yolo, _yaml('train: images\nnc: 3\nnames: [a, b]'), r'data\.yaml:2: nc must be .* 2, got 3'),
    'no yaml': (write_yolo, _yaml('train: [images\nnames: a'), r'data\.yaml must be a YAML file'),
    'class id': (write_yolo, _label('0 .5 .5 .1 .1\n2 .5 .5 .1 .1'), r'a 0\.txt:2: class id must be one of 0 to 1'),
    'pixels': (write_yolo, _label('0 20 20 10 10'), r'a 0\.txt:1: coordinates must be fractions'),
    'text': (write_yolo, _label('cat .5 .5 .1 .1'), r"a 0\.txt:1: a line must consist of numbers, got 'cat"),
    'two points': (write_yolo, _label('0 .5 .5'), r'a 0\.txt:1: a line must have a class id and 4 numbers'),
    'no image': (
        write_yolo,
        lambda root: (root / 'images/train/a 0.png').write_text('x'),
        r'a 0\.png must be an image',
    ),
    'no xml': (write_voc, lambda root: (root / 'Annotations/a 0.xml').write_text('<annotation>\n<x>'), r'a 0\.xml:2:'),
    'size': (write_voc, _xml(width=90), r'a 0\.xml: width and height must be .* 80x60, got 90x60'),
    'no number': (
        write_voc,
        _xml(width='nan', objects=OBJECT.format('cat', 1, 2, 'inf', 4)),
        r'a 0\.xml:5: bndbox must',
    ),
    'corners': (write_voc, _xml(objects='\n' + OBJECT.format('cat', 30, 2, 1, 40)), r'a 0\.xml:6: bndbox must have'),
    'no class': (write_voc, _xml(objects=OBJECT.format('', 1, 2, 3, 4)), r'a 0\.xml:5: an object must have a name'),
    'line': (
        write_csv,
        _row('a 0.png,80,60,cat,1,x,3,4\n'),
        r'train_labels\.csv:11: xmin, ymin, xmax and ymax must be',
    ),
    'stray': (write_csv, _row('b.png,80,60,cat,1,2,3,4\n'), r'b\.png must be an image, got no such file'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_a_fault_is_named_with_file_and_line(case, tmp_path):
    """One of seven images is more than 5 %, so a bad sample is refused too."""
    write, spoil, message = REFUSED[case]
    write(tmp_path, 6)
    spoil(tmp_path)
    with pytest.raises(RefusedError, match=message):
        read_dataset(tmp_path)


def test_a_dataset_without_training_images_can_be_evaluated(tmp_path):
    write_yolo(tmp_path / 'yolo', 2)
    (tmp_path / 'yolo' / 'data.yaml').write_text('test: images/train\nnames: [a, b]')
    write_voc(tmp_path / 'voc', 3, 2)
    sets = tmp_path / 'voc' / 'ImageSets' / 'Main'
    (sets / 'val.txt').rename(sets / 'test.txt')
    (sets / 'train.txt').unlink()
    for name in ('yolo', 'voc'):
        (part,) = read_dataset(tmp_path / name, needed='test').splits.values()
        assert len(part.content['images']) == 2
        with pytest.raises(RefusedError, match="must have a split 'train', got only test"):
            read_dataset(tmp_path / name)


def test_few_bad_samples_are_skipped(tmp_path):
    write_yolo(tmp_path, 30)
    (tmp_path / 'labels' / 'train' / 'a 7.txt').write_text('9 .5 .5 .1 .1')
    (tmp_path / 'images' / 'train' / 'a 31.heic').write_bytes(b'x')
    with pytest.raises(RefusedError, match='at most 5% bad samples, got 2 of 31'):
        read_dataset(tmp_path)
    (tmp_path / 'images' / 'train' / 'a 31.heic').unlink()
    dataset = read_dataset(tmp_path)
    assert len(boxes_of(dataset.splits['train'])) == 29
    assert re.search(
        r'a 7\.txt:1: class id must be one of 0 to 1, got 9$', dataset.skipped[str(tmp_path / 'images/train/a 7.png')]
    )


def test_two_formats_in_a_folder_are_named(tmp_path):
    write_yolo(tmp_path / 'a', 4)
    write_csv(tmp_path / 'b', 4)
    (tmp_path / 'b' / 'train_labels.csv').rename(tmp_path / 'a' / 'train.csv')
    with pytest.raises(
        RefusedError, match=r'one format, got YOLO \(data\.yaml\) and CSV \(train\.csv\); give the file'
    ):
        read_dataset(tmp_path / 'a')
    assert read_dataset(tmp_path / 'a' / 'data.yaml').kind == 'YOLO'
    assert read_dataset(tmp_path / 'a' / 'train.csv').kind == 'CSV'


def test_several_files_of_a_split_are_named(tmp_path):
    write_coco(tmp_path, 4)
    (tmp_path / 'other.json').write_bytes((tmp_path / 'all.json').read_bytes())
    with pytest.raises(RefusedError, match=r'one COCO JSON file .* got all\.json, other\.json; give one'):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path / 'other.json').source == tmp_path / 'other.json'


def test_no_annotations_are_reported_with_the_accepted_formats(tmp_path):
    write_yolo(tmp_path, 3)
    with pytest.raises(RefusedError, match=r'must have annotations: COCO JSON .* got 3 images without'):
        read_dataset(tmp_path / 'images')
    with pytest.raises(FileNotFoundError, match='no such file or folder'):
        read_dataset(tmp_path / 'nothing')


def test_a_dataset_without_objects_is_refused(tmp_path):
    write_yolo(tmp_path, 3)
    for file in (tmp_path / 'labels' / 'train').iterdir():
        file.write_text('')
    with pytest.raises(RefusedError, match='must have objects in train, got 3 images without'):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ('name', 'split'),
    [('instances_train2017', 'train'), ('valid', 'val'), ('Test', 'test'), ('trainval', None), ('train_val', None)],
)
def test_split_names(name, split):
    assert split_name(name) == split
