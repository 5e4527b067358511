"""Bad images and annotations in a dataset: skipped, raised, counted; inside wrappers and out; in test mode."""

import json
import logging
import math
import os
import random
import re

import numpy as np
import pictures
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from rtmdet_plugin.datasets.bad_samples import BadSamples, BadSamplesError, Reports
from rtmdet_plugin.datasets.coco import RTMCocoDataset
from rtmdet_plugin.datasets.seeded_fetch import fetch_by_place
from rtmdet_plugin.transforms.decoding import BadImageError

COUNT = 25  # one of them is 4 %
BROKEN = 3
WIDTH, HEIGHT = pictures.SIZE

STAGE_1 = [
    dict(type='RTMLoadImageAndAnnotations', img_scale=(64, 64)),
    dict(
        type='RTMCachedMosaicResizeCrop',
        img_scale=(64, 64),
        ratio_range=(0.5, 2.0),
        crop_size=(64, 64),
        max_cached_images=40,
    ),
    dict(type='RTMYOLOXHSVRandomAug'),
    dict(type='RTMRandomFlip', prob=0.5),
    dict(type='Pad', size=(64, 64), pad_val=dict(img=(114, 114, 114))),
    dict(type='RTMCachedMixUp', img_scale=(64, 64), ratio_range=(1.0, 1.0), max_cached_images=20),
    dict(type='RTMPackDetInputs'),
]
STAGE_2 = [
    dict(type='RTMLoadImageAndAnnotations', img_scale=(128, 128)),
    dict(type='RTMRandomResizeCrop', scale=(64, 64), ratio_range=(0.5, 2.0), crop_size=(64, 64)),
    dict(type='RTMYOLOXHSVRandomAug'),
    dict(type='RTMRandomFlip', prob=0.5),
    dict(type='Pad', size=(64, 64), pad_val=dict(img=(114, 114, 114))),
    dict(type='RTMPackDetInputs'),
]
PLAIN = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape')),
]
TEST = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='Pad', size=(64, 64), pad_val=dict(img=(114, 114, 114))),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
PIPELINES = dict(stage_1=STAGE_1, stage_2=STAGE_2, plain=PLAIN)


def coco(count=COUNT):
    x1, y1, x2, y2 = pictures.BOX
    images = [dict(id=i, file_name=f'{i}.jpg', width=WIDTH, height=HEIGHT) for i in range(count)]
    annotations = [
        dict(id=i + 1, image_id=i, category_id=1 + i % 2, bbox=[x1, y1, x2 - x1, y2 - y1], area=1280, iscrowd=0)
        for i in range(count)
    ]
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='a'), dict(id=2, name='b')])


@pytest.fixture(autouse=True)
def seed() -> None:
    """Draw the same augmentations and replacements, in whatever order the tests run."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture
def folder(tmp_path):
    """A folder with good images and their `ann.json`; a test breaks one file."""
    (tmp_path / 'img').mkdir()
    for i in range(COUNT):
        (tmp_path / 'img' / f'{i}.jpg').write_bytes(pictures.JPEG)
    write(tmp_path, coco())
    return tmp_path


def write(folder, content):
    (folder / 'ann.json').write_text(content if isinstance(content, str) else json.dumps(content))


def settings(folder, **more):
    # serialisation collects garbage, which takes half a second
    base = dict(data_root=str(folder), ann_file='ann.json', data_prefix=dict(img='img/'), serialize_data=False)
    return base | dict(pipeline=PLAIN) | more


@pytest.fixture
def logged(caplog):
    """The warnings since the test began."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    logger.removeHandler(caplog.handler)


# -- images -----------------------------------------------------------------------------------------------------


def on_disk(kind):
    """Return a function that changes the file at a path."""

    def change(path):
        path.unlink()
        if kind == 'directory':
            path.mkdir()
        elif kind == 'no permission':
            if os.geteuid() == 0:
                pytest.skip('root may read everything')
            path.write_bytes(pictures.JPEG)
            path.chmod(0)
        elif kind == 'link to nothing':
            path.symlink_to('nowhere.jpg')
        elif kind == 'link to itself':
            path.symlink_to(path)

    return change


FILES = {name: lambda path, data=data: path.write_bytes(data) for name, data in pictures.BAD.items()}
FILES |= {
    kind: on_disk(kind) for kind in ('missing', 'directory', 'no permission', 'link to nothing', 'link to itself')
}


def broken_file(folder, kind='empty', place=BROKEN):
    FILES[kind](folder / 'img' / f'{place}.jpg')
    return folder


@pytest.mark.parametrize('kind', FILES)
def test_another_sample_takes_the_place_of_a_bad_picture(folder, logged, kind):
    dataset = RTMCocoDataset(**settings(broken_file(folder, kind)))
    for _ in range(3):
        packed = dataset[BROKEN]
        assert packed['inputs'].shape == (3, HEIGHT, WIDTH)
        assert packed['data_samples'].img_id != BROKEN and len(packed['data_samples'].gt_instances) == 1
    (line,) = logged()
    assert f'img/{BROKEN}.jpg' in line


# One for each way in which an image fails: not decoded, cut off, of another size, not opened.
TYPICAL = ('text', 'jpeg without its last byte', 'another size', 'missing', 'directory')


@pytest.mark.parametrize('kind', TYPICAL)
def test_raise_names_the_bad_picture(folder, kind):
    dataset = RTMCocoDataset(**settings(broken_file(folder, kind), on_bad_sample='raise'))
    with pytest.raises((BadImageError, OSError), match=f'img/{BROKEN}.jpg'):
        dataset[BROKEN]
    assert dataset[0]['data_samples'].img_id == 0


@pytest.mark.parametrize(
    ('wrapper', 'stage'),
    [('none', 'stage_1'), ('none', 'stage_2'), ('concat', 'stage_1'), ('repeat', 'stage_2'), ('balanced', 'plain')],
)
def test_bad_picture_inside_a_wrapper(folder, logged, wrapper, stage):
    one = dict(type='RTMCocoDataset', **settings(broken_file(folder), pipeline=PIPELINES[stage]))
    config = dict(
        none=one,
        concat=dict(type='ConcatDataset', datasets=[one, one]),
        repeat=dict(type='RepeatDataset', times=2, dataset=one),
        balanced=dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=one),
    )[wrapper]
    dataset = DATASETS.build(config)
    places = [i for i in range(len(dataset)) if dataset.get_data_info(i)['img_id'] == BROKEN]
    ids = [dataset[place]['data_samples'].img_id for place in places]
    assert BROKEN not in ids
    lines = {line for line in logged() if 'Bad sample' in line}
    assert len(lines) == 1 and f'img/{BROKEN}.jpg' in lines.pop()


@pytest.mark.parametrize('stage', ['stage_1', 'stage_2'])
def test_every_kind_of_pixels_goes_through_both_stages(folder, stage):
    for place, content in enumerate(pictures.GOOD.values()):
        (folder / 'img' / f'{place}.jpg').write_bytes(content)
    dataset = RTMCocoDataset(**settings(folder, pipeline=PIPELINES[stage], on_bad_sample='raise'))
    for place in range(len(pictures.GOOD)):
        packed = dataset[place]
        assert packed['inputs'].shape == (3, 64, 64) and packed['inputs'].dtype == torch.uint8


def resized_file(folder, width, height):
    content = coco()
    content['images'][BROKEN] |= dict(width=width, height=height)
    content['annotations'][BROKEN] |= dict(bbox=[0, 0, width, height], area=width * height)
    write(folder, content)
    (folder / 'img' / f'{BROKEN}.jpg').write_bytes(pictures.encoded('.jpg', np.full((height, width, 3), 200, np.uint8)))


SIZES = {
    '1 px high': (96, 1),
    '1 px wide': (1, 96),
    '1x1': (1, 1),
    '30000 px wide': (30_000, 300),
    '30000 px high': (300, 30_000),
}
THIN = {'30000x4': (30_000, 4), '4x30000': (4, 30_000), '30000x1': (30_000, 1)}


@pytest.mark.parametrize(
    ('pipeline', 'size'),
    [(pipeline, size) for pipeline in PIPELINES for size in SIZES | THIN] + [('test', size) for size in SIZES],
)
def test_extreme_sizes(folder, size, pipeline):
    resized_file(folder, *(SIZES | THIN)[size])
    test_mode = pipeline == 'test'
    chosen = TEST if test_mode else PIPELINES[pipeline]
    dataset = RTMCocoDataset(**settings(folder, pipeline=chosen, on_bad_sample='raise', test_mode=test_mode))
    random.seed(0)
    for place in (0, BROKEN, BROKEN, 1):
        packed = dataset[place]
        boxes = packed['data_samples'].gt_instances.bboxes
        boxes = getattr(boxes, 'tensor', boxes)
        assert torch.isfinite(boxes).all() and (boxes[:, 2:] >= boxes[:, :2]).all()
        if pipeline != 'plain':
            assert packed['inputs'].shape == (3, 64, 64)


@pytest.mark.parametrize('size', THIN)
def test_evaluation_names_a_picture_that_it_would_resize_to_no_pixels(folder, size):
    resized_file(folder, *THIN[size])
    for policy in ('skip', 'raise'):
        dataset = RTMCocoDataset(**settings(folder, pipeline=TEST, test_mode=True, on_bad_sample=policy))
        with pytest.raises(BadImageError, match=rf'img/{BROKEN}\.jpg must .* got '):
            dataset[BROKEN]


def test_the_draw_in_its_place_follows_the_seed(folder):
    def epoch(num_workers):
        loader = dict(
            batch_size=1,
            num_workers=num_workers,
            sampler=dict(type='RTMDefaultSampler', shuffle=True),
            dataset=dict(type='RTMCocoDataset', **settings(broken_file(folder))),
        )
        loader = Runner.build_dataloader(loader, seed=7)
        fetch_by_place(loader.dataset)
        return [batch['data_samples'][0].img_id for batch in loader]

    ids = epoch(0)
    assert len(ids) == COUNT and BROKEN not in ids
    assert epoch(0) == ids == epoch(2)


# -- which way up -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('pipeline', [STAGE_2, PLAIN], ids=['ours', "mmdet's"])
@pytest.mark.parametrize('exif', ['turned', 'stored'])
def test_exif_is_a_setting_for_any_loader(folder, exif, pipeline):
    dataset = RTMCocoDataset(**settings(folder, pipeline=pipeline[:1], exif=exif, on_bad_sample='raise'))
    for orientation in range(1, 9):
        stored = pictures.flat() if exif == 'stored' else pictures.as_stored(orientation, pictures.flat())
        (folder / 'img' / '0.jpg').write_bytes(pictures.with_exif(orientation, stored))
        np.testing.assert_allclose(pictures.red_box(dataset[0]['img']), pictures.BOX, atol=1)


@pytest.mark.parametrize('orientation', [5, 6])
def test_evaluation_reads_a_turned_picture_as_training_does(folder, orientation):
    (folder / 'img' / '0.jpg').write_bytes(pictures.with_exif(orientation, pictures.flat()))
    trained = RTMCocoDataset(**settings(folder, pipeline=STAGE_2[:1]))[0]
    tested = RTMCocoDataset(**settings(folder, pipeline=TEST[:1], test_mode=True))[0]
    np.testing.assert_array_equal(trained['img'], tested['img'])
    assert trained['ori_shape'] == tested['ori_shape'] == (HEIGHT, WIDTH)


# -- evaluation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', TYPICAL)
def test_bad_picture_is_evaluated_as_a_grey_one(folder, logged, kind):
    """Its objects count as missed, so that a broken file can't raise AP."""
    dataset = RTMCocoDataset(**settings(broken_file(folder, kind), pipeline=TEST, test_mode=True))
    packed = dataset[BROKEN]
    sample = packed['data_samples']
    assert sample.img_id == BROKEN and sample.ori_shape == (HEIGHT, WIDTH) and len(sample.gt_instances) == 1
    assert (packed['inputs'] == 114).all()
    (line,) = logged()
    assert f'img/{BROKEN}.jpg' in line


@pytest.mark.parametrize('kind', TYPICAL)
def test_evaluation_raises_where_that_is_asked_for(folder, kind):
    dataset = RTMCocoDataset(
        **settings(broken_file(folder, kind), pipeline=TEST, test_mode=True, on_bad_sample='raise')
    )
    with pytest.raises((BadImageError, OSError), match=f'img/{BROKEN}.jpg'):
        dataset[BROKEN]


# -- annotations --------------------------------------------------------------------------------------------------


def entry(list_name, place=BROKEN, **values):
    """Set values of an entry; `...` drops the key."""

    def change(content):
        for key, value in values.items():
            if value is ...:
                del content[list_name][place][key]
            else:
                content[list_name][place][key] = value

    return change


def replaced(list_name, value, place=BROKEN):
    def change(content):
        content[list_name][place] = value

    return change


# Invalid entries: how the file is changed, and what the message says.
ENTRIES = {
    'box NaN': (entry('annotations', bbox=[1, math.nan, 3, 4]), 'bbox must be'),
    'box inf': (entry('annotations', bbox=[1, 2, math.inf, 4]), 'bbox must be'),
    'box null': (entry('annotations', bbox=None), 'bbox must be .* got None'),
    'box of nulls': (entry('annotations', bbox=[None] * 4), 'bbox must be'),
    'box of three': (entry('annotations', bbox=[1, 2, 3]), 'bbox must be'),
    'box of five': (entry('annotations', bbox=[1, 2, 3, 4, 5]), 'bbox must be'),
    'box empty': (entry('annotations', bbox=[]), 'bbox must be'),
    'box of text': (entry('annotations', bbox=['1', '2', '3', '4']), 'bbox must be'),
    'box a text': (entry('annotations', bbox='1 2 3 4'), 'bbox must be'),
    'box a dict': (entry('annotations', bbox=dict(x=1)), 'bbox must be'),
    'box missing': (entry('annotations', bbox=...), r'annotations\[3\] must be'),
    'area NaN': (entry('annotations', area=math.nan), 'area must be .* got nan'),
    'area text': (entry('annotations', area='12'), "area must be .* got '12'"),
    'category unknown': (entry('annotations', category_id=9), 'category_id must be .* got 9'),
    'category null': (entry('annotations', category_id=None), 'category_id must be .* got None'),
    'category a list': (entry('annotations', category_id=[1]), r'category_id must be .* got \[1\]'),
    'category missing': (entry('annotations', category_id=...), r'annotations\[3\] must be'),
    'image id missing': (entry('annotations', image_id=...), r'annotations\[3\] must be'),
    'image id a list': (entry('annotations', image_id=[3]), r'image_id must be .* got \[3\]'),
    'annotation no object': (replaced('annotations', 'box'), r"annotations\[3\] must be .* got 'box'"),
    'image no object': (replaced('images', 7), r'images\[3\] must be .* got 7'),
    'image without id': (entry('images', id=...), r'images\[3\] must be'),
    'image without file_name': (entry('images', file_name=...), r'images\[3\] must be'),
    'image without width': (entry('images', width=...), r'images\[3\] must be'),
    'image without height': (entry('images', height=...), r'images\[3\] must be'),
    'file_name null': (entry('images', file_name=None), 'file_name must be .* got None'),
    'file_name empty': (entry('images', file_name=''), "file_name must be .* got ''"),
    'file_name with a null byte': (entry('images', file_name='a\0b'), 'file_name must be'),
    'width zero': (entry('images', width=0), 'width and height must be .* got 0 and'),
    'height negative': (entry('images', height=-64), 'width and height must be .* and -64'),
    'width text': (entry('images', width='96'), "width and height must be .* got '96'"),
    'height NaN': (entry('images', height=math.nan), 'width and height must be .* and nan'),
    'image id null': (entry('images', id=None), 'id must be .* got None'),
}


@pytest.mark.parametrize('kind', ENTRIES)
def test_picture_with_an_entry_that_can_not_be_understood_is_left_out(folder, logged, kind):
    change, message = ENTRIES[kind]
    content = coco()
    change(content)
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder))
    ids = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
    # an annotation that doesn't name its image makes no image unusable, but counts
    lost = [] if kind in ('image id missing', 'image id a list', 'annotation no object') else [BROKEN]
    assert ids == [i for i in range(COUNT) if i not in lost]
    assert dataset.num_samples == COUNT + 1 - len(lost)
    assert sum(bool(re.search(message, line)) and 'Bad sample' in line for line in logged()) == 1
    assert dataset[0]['data_samples'].img_id == 0


@pytest.mark.parametrize(
    'kind',
    [
        *('box NaN', 'box missing', 'area text', 'category unknown', 'image id missing', 'annotation no object'),
        *('image no object', 'image without id', 'file_name null', 'width zero', 'image id null'),
    ],
)
def test_entry_that_can_not_be_understood_is_an_error(folder, kind):
    """In a test set it always is: skipped objects would be missing from AP."""
    change, message = ENTRIES[kind]
    content = coco()
    change(content)
    write(folder, content)
    for strict in (dict(on_bad_sample='raise'), dict(test_mode=True)):
        with pytest.raises(ValueError, match=message) as error:
            RTMCocoDataset(**settings(folder, **strict))
        assert 'ann.json' in str(error.value) and ' must ' in str(error.value)


def test_images_of_one_id_are_left_out_both(folder, logged):
    content = coco(2 * COUNT)
    content['images'][BROKEN]['id'] = BROKEN + 1
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder))
    ids = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
    assert ids == [i for i in range(2 * COUNT) if i not in (BROKEN, BROKEN + 1)]
    lines = [line for line in logged() if 'id must be unique in images, got 4' in line]
    assert [f'img/{i}.jpg' in line for i, line in zip((3, 4), lines, strict=True)] == [True, True]


def test_annotations_of_one_id_cost_their_pictures(folder, logged):
    content = coco(2 * COUNT)
    content['annotations'][BROKEN]['id'] = content['annotations'][BROKEN + 1]['id']
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder))
    assert len(dataset) == 2 * COUNT - 2
    assert sum('id must be unique in annotations, got 5' in line for line in logged()) == 2


BOXES = {
    'zero width': [5, 5, 0, 10],
    'zero height': [5, 5, 10, 0],
    'negative width': [50, 5, -10, 10],
    'negative height': [5, 50, 10, -10],
    'less than a pixel': [5, 5, 0.5, 10],
    'outside on the right': [WIDTH, 5, 10, 10],
    'outside on the left': [-20, 5, 15, 15],
    'outside far away': [1e9, 1e9, 10, 10],
}


@pytest.mark.parametrize('kind', BOXES)
def test_box_that_shows_nothing_is_left_out_and_told(folder, logged, kind):
    content = coco()
    content['annotations'][BROKEN]['bbox'] = BOXES[kind]
    content['annotations'].append(dict(image_id=BROKEN, category_id=1, bbox=[1, 1, 20, 20]))
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder))
    assert [i['bbox'] for i in dataset.get_data_info(BROKEN)['instances']] == [[1, 1, 21, 21]]
    (line,) = logged()
    assert f'1 of {COUNT + 1} boxes' in line and str([BROKEN + 1]) in line
    with pytest.raises(ValueError, match=r"ann\.json: 1 of .* boxes .*on_bad_sample='raise'"):
        RTMCocoDataset(**settings(folder, on_bad_sample='raise'))


@pytest.mark.parametrize('kind', ['zero width', 'outside on the right'])
def test_picture_whose_only_box_shows_nothing_is_no_background(folder, kind):
    content = coco()
    content['annotations'][BROKEN]['bbox'] = BOXES[kind]
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder, filter_cfg=dict(filter_empty_gt=True)))
    assert BROKEN not in [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]


@pytest.mark.parametrize(
    ('stage', 'bbox'),
    [
        *(('stage_1', [-10, -10, 40, 40]), ('stage_2', [80, 50, 100, 100]), ('stage_1', [-1e6, -1e6, 3e6, 3e6])),
        *(('stage_2', [-1e6, -1e6, 3e6, 3e6]), ('stage_1', [1e-3, 1e-3, 95.9, 63.9])),
    ],
)
def test_box_partly_outside_or_huge_is_cut_at_the_border(folder, stage, bbox):
    content = coco()
    for annotation in content['annotations']:
        annotation['bbox'] = bbox
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder, pipeline=PIPELINES[stage], on_bad_sample='raise'))
    random.seed(0)
    for place in range(5):
        boxes = dataset[place]['data_samples'].gt_instances.bboxes.tensor
        assert len(boxes) and torch.isfinite(boxes).all() and boxes.min() >= 0 and boxes.max() <= 64


def test_annotations_of_an_unknown_image_are_told(folder, logged):
    content = coco()
    content['annotations'][BROKEN]['image_id'] = 999
    write(folder, content)
    assert len(RTMCocoDataset(**settings(folder))) == COUNT
    (line,) = logged()
    assert '1 of 25 annotations belong to images that are not in the file' in line


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'in JSON, got an error'),
        (json.dumps(coco())[:-200], 'in JSON, got an error'),
        ('\0' * 100, 'in JSON, got an error'),
        ('[]', 'got list'),
        ('null', 'got NoneType'),
        (json.dumps(dict(coco(), images=[])), "'images' must have at least one entry"),
        (json.dumps(dict(coco(), categories=[])), "'categories' must have at least one entry"),
        (json.dumps(dict(coco(), annotations=[])), 'must have an object to train on, got none'),
        (json.dumps({k: v for k, v in coco().items() if k != 'images'}), "no list 'images'"),
        (json.dumps({k: v for k, v in coco().items() if k != 'annotations'}), "no list 'annotations'"),
        (json.dumps({k: v for k, v in coco().items() if k != 'categories'}), "no list 'categories'"),
        (json.dumps(dict(coco(), images=dict(a=1))), "no list 'images'"),
        (json.dumps(dict(coco(), categories=[dict(id=1, name='a')] * 2)), 'category ids must be unique'),
        (json.dumps(dict(coco(), categories=[dict(id=i, name='a') for i in (1, 2)])), 'category names must be unique'),
        (json.dumps(dict(coco(), categories=[dict(id=1)])), r'categories\[0\]'),
        (json.dumps(dict(coco(), categories=[3])), r'categories\[0\]'),
    ],
    ids=[
        *('0 bytes', 'cut off', 'zeros', 'a list', 'null', 'no images', 'no categories', 'no annotations'),
        *('images missing', 'annotations missing', 'categories missing', 'images an object'),
        *('category ids repeat', 'category names repeat', 'category without a name', 'category no object'),
    ],
)
def test_broken_file_stops_the_run_before_its_first_step(folder, text, message):
    write(folder, text)
    for policy in ('skip', 'raise'):
        with pytest.raises(ValueError, match=message) as error:
            RTMCocoDataset(**settings(folder, on_bad_sample=policy))
        assert 'ann.json' in str(error.value) and ' must ' in str(error.value)


# -- images without objects, crowds -----------------------------------------------------------------------------


@pytest.mark.parametrize('stage', PIPELINES)
def test_picture_without_objects_trains_as_background(folder, stage):
    content = coco()
    content['annotations'] = content['annotations'][:1]
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder, pipeline=PIPELINES[stage], on_bad_sample='raise'))
    random.seed(0)
    np.random.seed(0)
    packed = [dataset[place]['data_samples'] for place in range(1, COUNT)]
    assert len({sample.img_id for sample in packed}) >= COUNT - 3, 'others took their place'
    assert all(len(sample.gt_instances) == 0 for sample in packed if sample.img_id != 0)
    filtered = RTMCocoDataset(**settings(folder, filter_cfg=dict(filter_empty_gt=True)))
    assert [filtered.get_data_info(i)['img_id'] for i in range(len(filtered))] == [0]


@pytest.mark.parametrize('stage', PIPELINES)
@pytest.mark.parametrize('crowds', ['one', 'all of an image'])
def test_crowds_are_regions_to_ignore(folder, crowds, stage):
    content = coco()
    for annotation in content['annotations'][1:]:
        annotation['iscrowd'] = 1
        if crowds == 'one':
            content['annotations'].append({**annotation, 'id': annotation['id'] + 100, 'iscrowd': 0})
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder, pipeline=PIPELINES[stage], on_bad_sample='raise'))
    random.seed(0)
    samples = [dataset[place]['data_samples'] for place in range(1, 8)]
    assert sum(len(sample.ignored_instances) for sample in samples) >= 7
    objects = sum(len(sample.gt_instances) for sample in samples)
    assert objects >= 7 if crowds == 'one' else objects <= 1


@pytest.mark.parametrize('images', [1, 2, 3])
def test_cache_larger_than_the_data_set(folder, images):
    write(folder, coco(images))
    dataset = RTMCocoDataset(**settings(folder, pipeline=STAGE_1, on_bad_sample='raise'))
    for place in list(range(images)) * 3:
        packed = dataset[place]
        assert packed['inputs'].shape == (3, 64, 64) and len(packed['data_samples'].gt_instances)


# -- too many -----------------------------------------------------------------------------------------------------


def test_more_than_the_share_stop_with_the_list(folder):
    for place in (3, 5):
        broken_file(folder, 'empty', place)
    dataset = RTMCocoDataset(**settings(folder))
    np.random.seed(0)  # the replacement of a bad sample is drawn at random; it must not be the other bad one
    dataset[3]
    with pytest.raises(BadSamplesError, match=r'at most max_bad_share=0\.05, got 2 of 25') as error:
        dataset[5]
    assert 'img/3.jpg' in str(error.value) and 'img/5.jpg' in str(error.value)
    assert RTMCocoDataset(**settings(folder, max_bad_share=0.08))[3] is not None


def test_all_pictures_missing_stops_soon(folder):
    for path in (folder / 'img').iterdir():
        path.unlink()
    with pytest.raises(BadSamplesError, match='2 of 25'):
        RTMCocoDataset(**settings(folder))[0]


def test_pictures_left_out_by_the_annotation_file_count_as_well(folder):
    content = coco()
    entry('annotations', bbox=None)(content)
    write(folder, content)
    broken_file(folder, 'empty', 5)
    dataset = RTMCocoDataset(**settings(folder))
    with pytest.raises(BadSamplesError, match=r'2 of 25(?s:.)*3\.jpg(?s:.)*5\.jpg'):
        dataset[4]
    entry('images', 7, width=None)(content)
    write(folder, content)
    with pytest.raises(BadSamplesError, match='2 of 25'):
        RTMCocoDataset(**settings(folder))


def test_the_share_is_that_of_all_listed_pictures(folder):
    content = coco()
    entry('annotations', bbox=None)(content)
    for annotation in content['annotations']:
        if annotation['bbox'] is not None:
            annotation['image_id'] = content['images'][-1]['id']
    write(folder, content)
    dataset = RTMCocoDataset(**settings(folder), filter_cfg=dict(filter_empty_gt=True))
    assert len(dataset) == 1 and dataset.num_samples == 25


def test_a_long_list_is_cut():
    samples = BadSamples('ann.json', 0.5)
    for i in range(200):
        samples.report(f'{i}.jpg', 'broken')
    with pytest.raises(BadSamplesError, match='and 150 more') as error:
        samples.check_share(300)
    assert str(error.value).count('.jpg') == 50


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        *(('on_bad_sample', 'ignore'), ('on_bad_sample', None), ('exif', 'ignore'), ('exif', None)),
        *(('max_bad_share', 'ignore'), ('max_bad_share', None), ('max_bad_share', -0.1), ('max_bad_share', 5)),
    ],
)
def test_settings_out_of_their_range_are_refused(folder, name, value):
    with pytest.raises(ValueError, match=f'{name} must be .* got ') as error:
        RTMCocoDataset(**settings(folder, **{name: value}))
    assert repr(value) in str(error.value)


# -- the file between the processes -------------------------------------------------------------------------------


def test_reports_are_read_once_and_in_whole_lines(tmp_path):
    samples, reports = BadSamples('ann.json', 1.0), Reports(str(tmp_path / 'bad.jsonl'))
    assert reports.new() == []
    samples.file = reports.file
    samples.report('a\n"ä".jpg', 'why')
    samples.report('b.jpg', ValueError('b.jpg: cut off'))
    assert reports.new() == [('a\n"ä".jpg', 'a\n"ä".jpg: why'), ('b.jpg', 'b.jpg: cut off')]
    with open(reports.file, 'a') as file:
        file.write('["c.jpg", "c')
    assert reports.new() == []
    with open(reports.file, 'a') as file:
        file.write('.jpg: late"]\n')
    assert reports.new() == [('c.jpg', 'c.jpg: late')]
    reports.clear()
    samples.report('b.jpg', 'again')
    assert reports.new() == [('b.jpg', 'b.jpg: again')]


def test_a_full_disk_costs_only_the_file(tmp_path, logged):
    samples = BadSamples('ann.json', 1.0)
    samples.file = '/dev/full'
    samples.report('a.jpg', 'why')
    samples.file = str(tmp_path / 'nowhere' / 'bad.jsonl')
    samples.report('b.jpg', 'why')
    assert logged() == ['Bad sample: a.jpg: why', 'Bad sample: b.jpg: why']
