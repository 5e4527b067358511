"""Classes from the annotation file, and errors for files that can't be trained on."""

import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger

from rtmdet_plugin.datasets.coco import RTMCocoDataset
from rtmdet_plugin.datasets.coco_file import read_coco_file

CLASSES = ('square', 'bar', 'disc')


@pytest.fixture
def warnings_of(caplog):
    """Return the warnings that building a dataset logs."""
    logger = MMLogger.get_current_instance()

    def build(**settings):
        logger.addHandler(caplog.handler)
        caplog.clear()
        RTMCocoDataset(**settings)
        logger.removeHandler(caplog.handler)
        return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]

    return build


def labels(dataset):
    return [[i['bbox_label'] for i in dataset.get_data_info(k)['instances']] for k in range(len(dataset))]


def test_classes_come_from_the_file_in_the_order_of_their_ids(content, write):
    dataset = RTMCocoDataset(**write(content))
    assert dataset.metainfo == {'classes': CLASSES}
    # the file's categories are disc (7), square (0), bar (3); objects take them in turn
    assert labels(dataset)[:3] == [[2, 0], [0, 1], [1, 2]]
    assert dataset.cat_ids == [0, 3, 7]


def test_the_order_in_the_file_does_not_matter(content, write):
    expected = labels(RTMCocoDataset(**write(content)))
    content['categories'] = content['categories'][::-1]
    assert labels(RTMCocoDataset(**write(content, 'other.json'))) == expected


@pytest.mark.parametrize(
    ('classes', 'first_labels'),
    [
        (('square', 'bar', 'disc'), [2, 0]),
        (['disc', 'square', 'bar'], [0, 1]),
        (('bar', 'disc', 'square'), [1, 2]),
        (('disc',), [0]),
        (('square', 'disc'), [1, 0]),
    ],
)
def test_labels_follow_the_classes_that_metainfo_names(content, write, classes, first_labels):
    dataset = RTMCocoDataset(**write(content), metainfo={'classes': classes})
    assert dataset.metainfo['classes'] == tuple(classes)
    assert labels(dataset)[0] == first_labels


def test_mmdet_puts_wrong_names_on_labels_in_another_order(content, write):
    """The reason for a difference that the module's header names; drop the note when mmdet fixes it."""
    theirs = CocoDataset(**write(content), metainfo={'classes': ('square', 'bar', 'disc')})
    disc_and_square = labels(theirs)[0]
    assert [theirs.metainfo['classes'][label] for label in disc_and_square] == ['square', 'bar']


@pytest.mark.parametrize('metainfo', [None, {}, {'palette': [(1, 2, 3)] * 3}, {'task': 'cells'}], ids=str)
def test_metainfo_without_classes_takes_them_from_the_file(content, write, metainfo):
    dataset = RTMCocoDataset(**write(content), metainfo=metainfo)
    assert dataset.metainfo == {**(metainfo or {}), 'classes': CLASSES}


def test_metainfo_of_a_config(content, write):
    metainfo = ConfigDict(classes=['bar'], palette=[(1, 2, 3)])
    dataset = RTMCocoDataset(**write(content), metainfo=metainfo)
    assert dataset.metainfo == {'classes': ('bar',), 'palette': [(1, 2, 3)]}


def test_cocos_palette_does_not_leak_and_the_visualizer_finds_colours(content, write):
    dataset = RTMCocoDataset(**write(content), pipeline=[{'type': 'LoadImageFromFile'}])
    assert 'palette' not in dataset.metainfo and 'classes' in CocoDataset.METAINFO
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = dataset.metainfo
    boxes = np.array([[5, 5, 50, 50], [10, 10, 70, 40]], dtype=np.float32)
    sample = DetDataSample(gt_instances=InstanceData(bboxes=boxes, labels=np.array([0, 2])))
    image = np.full((60, 80, 3), 255, np.uint8)
    visualizer.add_datasample('x', image, sample, draw_pred=False, show=False)
    assert (visualizer.get_image() != 255).any()


def test_palette_of_another_length_is_refused(content, write):
    with pytest.raises(ValueError, match=r"metainfo\['palette'\] must have 3 colours.* got 80"):
        RTMCocoDataset(**write(content), metainfo={'palette': CocoDataset.METAINFO['palette']})


def test_class_that_the_file_does_not_have_is_named_with_those_it_has(content, write):
    with pytest.raises(ValueError, match=r"ann\.json.*\['square', 'bar', 'disc'\].*\['ring', 'cube'\]"):
        RTMCocoDataset(**write(content), metainfo={'classes': ('disc', 'ring', 'cube')})


@pytest.mark.parametrize('classes', [(), ('disc', 'disc'), 'disc', ('disc', 1), {'disc'}], ids=str)
def test_classes_that_are_no_list_of_different_names_are_refused(content, write, classes):
    with pytest.raises(ValueError, match=r"metainfo\['classes'\] must be a list of different names"):
        RTMCocoDataset(**write(content), metainfo={'classes': classes})


def broken(key, value=None, where=0, entry=None):
    """Return a change to the tiny content: drop an entry's key or set its value, or replace a complete list."""

    def change(content):
        content = json.loads(json.dumps(content))
        if entry is None:
            content[key] = value
        elif value is None:
            del content[entry][where][key]
        else:
            content[entry][where][key] = value
        return content

    return change


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: '', 'in JSON, got an error'),
        (lambda c: '{"images": [', 'in JSON, got an error'),
        (lambda c: '[]', 'got list'),
        (lambda c: {}, "no list 'categories'"),
        (lambda c: {'images': []} | c | {'images': []}, "'images' must have at least one entry"),
        (broken('categories', []), "'categories' must have at least one entry"),
        (broken('images', None), "no list 'images'"),
        (broken('annotations', {}), "no list 'annotations'"),
        (broken('id', entry='categories'), r'categories\[0\] must be an object'),
        (broken('name', entry='categories'), r'categories\[0\] must be an object'),
        (broken('id', '7', entry='categories'), 'an integer id'),
        (broken('name', 4, entry='categories'), 'text as its name'),
        (broken('id', 3, entry='categories'), r'category ids must be unique, got \[3\]'),
        (broken('name', 'bar', entry='categories'), r"category names must be unique, got \['bar'\]"),
        (broken('file_name', where=2, entry='images'), r'images\[2\]'),
        (broken('height', where=1, entry='images'), r'images\[1\]'),
        (broken('id', 99, entry='images'), 'id must be unique in images, got 99'),
        (broken('bbox', where=3, entry='annotations'), r'annotations\[3\]'),
        (broken('id', 2, entry='annotations'), 'id must be unique in annotations, got 2'),
        (broken('category_id', 5, entry='annotations'), r'category_id must be .*\[0, 3, 7\], got 5'),
        (
            broken('bbox', [1, 2, 3], entry='annotations'),
            r'annotations\[0\] with id 1: bbox must be .* got \[1, 2, 3\]',
        ),
        (
            broken('bbox', [None] * 4, 5, 'annotations'),
            r'annotations\[5\] with id 22: bbox must be .* got \[None, None, None, None\]',
        ),
        (broken('bbox', [1, float('nan'), 3, 4], 1, 'annotations'), r'with id 2: bbox must be .* got \[1, nan, 3, 4\]'),
        (broken('bbox', [1, 2, float('inf'), 4], 1, 'annotations'), r'with id 2: bbox must be .* got \[1, 2, inf, 4\]'),
        (broken('bbox', ['1', 2, 3, 4], 1, 'annotations'), r"with id 2: bbox must be .* got \['1', 2, 3, 4\]"),
        (broken('bbox', {'x': 1}, 1, 'annotations'), r"with id 2: bbox must be .* got \{'x': 1\}"),
        (broken('area', float('nan'), 1, 'annotations'), 'with id 2: area must be .* got nan'),
        (broken('area', '12', 1, 'annotations'), "with id 2: area must be .* got '12'"),
    ],
)
def test_broken_file_is_refused_with_its_name(content, write, change, message):
    settings = write(change(content))
    with pytest.raises(ValueError, match=message) as error:
        RTMCocoDataset(**settings)
    assert str(Path(settings['data_root']) / 'ann.json') in str(error.value)
    assert ' must ' in str(error.value)


def test_no_or_missing_file():
    with pytest.raises(ValueError, match="ann_file must be .* got ''"):
        RTMCocoDataset(ann_file='')
    with pytest.raises(FileNotFoundError):
        RTMCocoDataset(ann_file='/nowhere/ann.json')


def test_filter_that_leaves_nothing_is_refused(content, write):
    settings = write(content)
    with pytest.raises(
        ValueError, match=r"filter_cfg must leave at least one of 6 images, got none with \{'min_size': 500\}"
    ):
        RTMCocoDataset(**settings, filter_cfg={'min_size': 500})


@pytest.mark.parametrize('filter_cfg', [None, {'filter_empty_gt': False}, {'filter_empty_gt': True}], ids=str)
def test_training_file_without_a_single_object_is_refused(content, write, filter_cfg):
    """mmengine ends such a run with "Cannot find valid image after 1000!"."""
    nothing, too_thin = json.loads(json.dumps([content, content]))
    nothing['annotations'] = []
    for annotation in too_thin['annotations']:
        annotation['bbox'][2] = 0.5
    for number, broken_content in enumerate([nothing, too_thin]):
        settings = write(broken_content, f'{number}.json')
        with pytest.raises(
            ValueError, match=rf"{number}.json must have an object to train on, got none in 6 images.*\('square', 'bar'"
        ):
            RTMCocoDataset(**settings, filter_cfg=filter_cfg)
        assert len(RTMCocoDataset(**settings, filter_cfg=filter_cfg, test_mode=True)) == 6
    # objects of other classes don't count
    one_class = [a for a in content['annotations'] if a['category_id'] == 7]
    settings = write({**content, 'annotations': one_class})
    with pytest.raises(ValueError, match=r"an object to train on.*\('bar',\)"):
        RTMCocoDataset(**settings, metainfo={'classes': ('bar',)}, filter_cfg=filter_cfg)


def test_boxes_in_another_format_are_reported(content, write, warnings_of):
    corners, shares = json.loads(json.dumps([content, content]))
    for annotation in corners['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['bbox'] = [x, y, x + width, y + height]
    for annotation in shares['annotations']:
        annotation.update(bbox=[0.5, 0.5, 0.2, 0.1])
    settings = write(corners)
    for test_mode in (False, True):
        message = warnings_of(**settings, test_mode=test_mode)[-1]
        assert 'ann.json: ' in message and 'as x1, y1, x2, y2, which seems to be their format' in message
    with pytest.raises(ValueError, match='as x1, y1, x2, y2, which seems to be their format'):
        RTMCocoDataset(**settings, on_bad_sample='raise')
    with pytest.raises(ValueError, match='an object to train on, got none.* numbers from 0 to 1: they seem to be'):
        RTMCocoDataset(**write(shares))


@pytest.mark.parametrize('missing', [{}, {'area': None, 'iscrowd': None, 'id': None}], ids=['absent', 'null'])
def test_what_a_file_made_by_hand_lacks_is_filled_in(content, write, missing):
    expected = RTMCocoDataset(**write(content))
    for annotation in content['annotations']:
        for key in ('area', 'iscrowd', 'id'):
            del annotation[key]
        annotation.update(missing)
    settings = write(content, 'lean.json')
    dataset = RTMCocoDataset(**settings)
    assert [dataset.get_data_info(i) for i in range(6)] == [expected.get_data_info(i) for i in range(6)]
    filled = read_coco_file(f'{settings["data_root"]}/lean.json')['annotations']
    assert [a['id'] for a in filled] == list(range(1, 13))
    assert all(a['area'] == a['bbox'][2] * a['bbox'][3] and a['iscrowd'] == 0 for a in filled)


def test_what_a_file_says_itself_stays(content, write):
    content['annotations'][0].update(id=77, area=5.5, iscrowd=1)
    settings = write(content)
    assert read_coco_file(f'{settings["data_root"]}/ann.json')['annotations'] == content['annotations']


def test_filter_and_test_mode_as_in_mmdet(content, write):
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != 98]
    content['images'][0] |= {'width': 20}
    settings = write(content) | {'filter_cfg': {'filter_empty_gt': True, 'min_size': 32}}
    assert [RTMCocoDataset(**settings).get_data_info(i)['img_id'] for i in range(4)] == [99, 97, 96, 95]
    assert len(RTMCocoDataset(**settings, test_mode=True)) == 6
    # a class filter skips images of other classes
    only_bar = RTMCocoDataset(**settings, metainfo={'classes': ('bar',)})
    assert 0 < len(only_bar) < 4 and all(labels(only_bar))


def test_test_set_may_have_no_annotations(content, write):
    del content['annotations']
    assert len(RTMCocoDataset(**write(content), test_mode=True)) == 6
    with pytest.raises(ValueError, match="no list 'annotations'"):
        RTMCocoDataset(**write(content))


def test_crowds_are_flagged_and_objects_outside_left_out(content, write):
    content['annotations'][0]['iscrowd'] = 1
    content['annotations'][1]['bbox'] = [500, 4, 10, 10]
    content['annotations'][2]['bbox'] = [5, 4, 0.4, 10]
    dataset = RTMCocoDataset(**write(content))
    assert [i['ignore_flag'] for i in dataset.get_data_info(0)['instances']] == [1]
    assert [i['ignore_flag'] for i in dataset.get_data_info(1)['instances']] == [0]


def test_classes_without_objects_are_reported_once(content, write, warnings_of):
    content['categories'] = [*content['categories'], {'id': 11, 'name': 'ring'}, {'id': 5, 'name': 'cube'}]
    settings = write(content)
    (line,) = warnings_of(**settings)
    assert "2 of 5 classes have no object to learn from: ['cube', 'ring']" in line and 'ann.json' in line
    assert warnings_of(**settings, metainfo={'classes': CLASSES}) == []
    assert not any('no object' in line for line in warnings_of(**settings, test_mode=True))


def test_annotations_of_unlisted_images_are_reported(content, write, warnings_of):
    content['images'] = content['images'][:5]
    (line,) = warnings_of(**write(content))
    assert '2 of 12 annotations' in line and 'ann.json' in line


def test_labels_in_another_order_than_the_file_are_reported_before_evaluation(content, write, warnings_of):
    (line,) = warnings_of(**write(content), test_mode=True)
    assert 'RTMCocoMetric' in line
    content['categories'] = sorted(content['categories'], key=lambda c: c['id'])
    settings = write(content, 'sorted.json')
    assert warnings_of(**settings, test_mode=True) == []
    assert warnings_of(**settings, test_mode=True, metainfo={'classes': ('square', 'disc')}) == []
    assert len(warnings_of(**settings, test_mode=True, metainfo={'classes': ('disc', 'square')})) == 1


@pytest.mark.parametrize('serialize', [True, False])
def test_subsets_indices_and_pickling(content, write, serialize):
    settings = write(content) | {'serialize_data': serialize}
    dataset = RTMCocoDataset(**settings)
    assert [len(RTMCocoDataset(**settings, indices=n)) for n in (4, -2, [0, 3])] == [4, 2, 2]
    subset = dataset.get_subset([1, 4])
    assert len(subset) == 2 and subset.get_data_info(1)['img_id'] == 96
    assert subset.metainfo == dataset.metainfo
    again = pickle.loads(pickle.dumps(dataset))
    assert labels(again) == labels(dataset) and again.metainfo == dataset.metainfo


def test_lazy_init_knows_its_classes_when_asked(content, write):
    settings = write(content)
    dataset = RTMCocoDataset(**settings, lazy_init=True)
    assert not dataset._fully_initialized
    assert dataset.metainfo['classes'] == CLASSES
    assert len(dataset) == 6


def test_lazy_init_without_the_file_still_gives_metainfo():
    """mmdet's DetInferencer builds the test set lazily on machines that may not have the data."""
    dataset = RTMCocoDataset(ann_file='/nowhere/ann.json', metainfo={'palette': 'random'}, lazy_init=True)
    assert dataset.metainfo == {'palette': 'random'}


@pytest.mark.parametrize('lazy', [True, False])
def test_wrappers(content, write, lazy):
    one = {'type': 'RTMCocoDataset', **write(content), 'lazy_init': lazy}
    concat = DATASETS.build({'type': 'ConcatDataset', 'datasets': [one, one]})
    assert len(concat) == 12 and concat.metainfo['classes'] == CLASSES
    repeat = DATASETS.build({'type': 'RepeatDataset', 'times': 3, 'dataset': one})
    assert len(repeat) == 18 and repeat.metainfo['classes'] == CLASSES
    balanced = DATASETS.build({'type': 'ClassBalancedDataset', 'oversample_thr': 0.9, 'dataset': one})
    assert len(balanced) >= 6 and balanced.metainfo['classes'] == CLASSES
    assert balanced.get_data_info(0)['instances']


def test_backend_args_reach_the_file_backend(content, write):
    settings = write(content)
    dataset = RTMCocoDataset(**settings, backend_args={'backend': 'local'})
    assert len(dataset) == 6
    with pytest.raises(KeyError, match='nonesuch'):
        RTMCocoDataset(**settings, backend_args={'backend': 'nonesuch'})


def assert_same_as_mmdet(settings, **more):
    ours, theirs = RTMCocoDataset(**settings, **more), CocoDataset(**settings, **more)
    assert len(ours) == len(theirs) > 0
    for i in range(len(ours)):
        assert ours.get_data_info(i) == theirs.get_data_info(i)
    return ours


def test_coco_is_read_as_by_mmdet(data_root):
    """50 images of COCO with its 80 classes, crowds and segmentations are read entry by entry as in mmdet."""
    for split in ('train2017', 'val2017'):
        settings = {
            'data_root': str(data_root / 'coco_tiny'),
            'ann_file': f'annotations/instances_{split}.json',
            'data_prefix': {'img': f'{split}/'},
        }
        ours = assert_same_as_mmdet(settings, filter_cfg={'filter_empty_gt': True, 'min_size': 32})
        assert ours.metainfo['classes'] == CocoDataset.METAINFO['classes']
        assert_same_as_mmdet(settings, test_mode=True)
        assert_same_as_mmdet(settings, metainfo={'classes': ('person', 'dog')}, test_mode=True)


def test_blood_cells(data_root):
    for split, count in (('train', 205), ('val', 87), ('test', 72)):
        settings = {
            'data_root': str(data_root / 'bccd'),
            'ann_file': f'annotations/{split}.json',
            'data_prefix': {'img': 'images/'},
        }
        dataset = RTMCocoDataset(**settings)
        assert len(dataset) == count
        assert dataset.metainfo == {'classes': ('RBC', 'WBC', 'Platelets')}
        assert Path(dataset.get_data_info(0)['img_path']).is_file()
        assert_same_as_mmdet(settings, metainfo=dataset.metainfo)


def test_boxes_that_can_not_be_learned_from_are_reported(content, write, warnings_of):
    width = content['images'][0]['width']
    broken = [[width + 5, 2, 10, 10], [5, 5, 0, 10], [5, 5, 10, 0.5], [-20, 5, 15, 15]]
    for annotation, bbox in zip(content['annotations'], broken, strict=False):
        annotation['bbox'] = bbox
    settings = write(content)
    ids = [annotation['id'] for annotation in content['annotations'][:4]]
    reported = [message for message in warnings_of(**settings) if 'they are skipped' in message]
    assert len(reported) == 1 and f'4 of {len(content["annotations"])} boxes' in reported[0] and str(ids) in reported[0]
    dataset = RTMCocoDataset(**settings, filter_cfg={'filter_empty_gt': False})
    kept = sum(len(dataset.get_data_info(i)['instances']) for i in range(len(dataset)))
    assert kept == len(content['annotations']) - 4, 'the warning and mmdet disagree'
