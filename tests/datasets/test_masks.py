"""Datasets with masks: which annotations are refused or ignored, and samples on their way to the trainer."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import MMLogger
from mmengine.runner import Runner, set_random_seed
from pycocotools import mask as coco_mask

from rtmdet_plugin import composable
from rtmdet_plugin.datasets.bad_samples import BadSamplesError
from rtmdet_plugin.datasets.coco import RTMCocoDataset
from rtmdet_plugin.datasets.mask_annotations import NO_AREA, NO_MASK, OTHER_SIZE, unusable_masks
from rtmdet_plugin.datasets.seeded_fetch import fetch_by_place
from rtmdet_plugin.errors import RefusedError
from rtmdet_plugin.stride_masks import StrideMasks
from rtmdet_plugin.transforms.outline_masks import OutlineMasks
from rtmdet_plugin.transforms.outlines import outline_of

LOAD = [dict(type='RTMLoadImageAndAnnotations', img_scale=(64, 64), with_mask=True)]
STAGE_1 = [
    *LOAD,
    dict(
        type='RTMCachedMosaicResizeCrop',
        img_scale=(64, 64),
        ratio_range=(0.5, 2.0),
        crop_size=(64, 64),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type='RTMYOLOXHSVRandomAug'),
    dict(type='RTMRandomFlip', prob=0.5),
    dict(type='Pad', size=(64, 64), pad_val=dict(img=(114, 114, 114))),
    dict(type='RTMCachedMixUp', img_scale=(64, 64), ratio_range=(1.0, 1.0)),
    dict(type='RTMPackDetInputs', meta_keys=('img_id', 'img_path')),
]
STAGE_2 = [
    *LOAD,
    dict(type='RTMRandomResizeCrop', scale=(64, 64), ratio_range=(0.5, 2.0), crop_size=(64, 64), recompute_bbox=True),
    dict(type='Pad', size=(64, 64)),
    dict(type='RTMPackDetInputs', meta_keys=('img_id', 'img_path')),
]


def triangle(x, y, width, height):
    return [[x, y, x + width, y, x, y + height]]


def run_lengths(x, y, width, height, size=(80, 60)):
    bitmap = np.zeros(size[::-1], np.uint8, order='F')
    bitmap[y : y + height, x : x + width] = 1
    code = coco_mask.encode(bitmap)
    return {'size': code['size'], 'counts': code['counts'].decode()}


@pytest.fixture
def masked(content):
    """Give the first object of each image a polygon, and the second one a run-length code."""
    for place, annotation in enumerate(content['annotations']):
        annotation['segmentation'] = (run_lengths if place % 2 else triangle)(*annotation['bbox'])
    return content


@pytest.fixture
def logged(monkeypatch):
    lines = []
    monkeypatch.setattr(
        MMLogger.get_current_instance(), 'callHandlers', lambda record: lines.append(record.getMessage())
    )
    return lines


BAD = {
    'no key': (NO_MASK, None),
    'empty': (NO_MASK, []),
    'another size': (OTHER_SIZE, run_lengths(1, 1, 5, 5, size=(60, 80))),
    'a code without a size': (OTHER_SIZE, {'counts': [1]}),
    'two points': (NO_AREA, [[1.0, 2.0, 3.0, 4.0]]),
    'an odd number': (NO_AREA, [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]),
    'on one line': (NO_AREA, [[0.1, 0.1, 0.2, 0.2, 30.3, 30.3]]),
    'outside': (NO_AREA, triangle(90, 5, 10, 10)),
    'NaN': (NO_AREA, [[1.0, float('nan'), 9.0, 1.0, 1.0, 9.0]]),
    'text': (NO_AREA, 'a mask'),
    'a polygon of text': (NO_AREA, [['1', 'x', '9', '1', '1', '9']]),
    'a list too few': (NO_AREA, [1.0, 1.0, 9.0, 1.0, 1.0, 9.0]),
}


@pytest.mark.parametrize('kind', BAD)
def test_an_object_without_a_usable_mask_is_background_and_logged(masked, write, logged, kind):
    reason, mask = BAD[kind]
    bad = masked['annotations'][3]
    bad['segmentation'] = mask
    if mask is None:
        del bad['segmentation']
    arguments = write(masked, images=True)
    dataset = RTMCocoDataset(**arguments, pipeline=STAGE_2)
    flags = [[i['ignore_flag'] for i in dataset.get_data_info(n)['instances']] for n in range(6)]
    assert flags == [[0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]]
    (line,) = [line for line in logged if 'no mask to learn from' in line]
    assert (
        f'1 of 12 objects have no mask to learn from (1 {reason}, ids [{bad["id"]}]); they are trained as background.'
        in line
    )
    results = dataset.pipeline.transforms[0]({**dataset.get_data_info(1), 'exif': 'as_annotated'})
    assert results['gt_ignore_flags'].tolist() == [False, True]
    with pytest.raises(RefusedError, match=r"ann\.json: 1 of 12 .*on_bad_sample='raise'"):
        RTMCocoDataset(**arguments, pipeline=STAGE_2, on_bad_sample='raise')
    logged.clear()
    RTMCocoDataset(**arguments, pipeline=[dict(type='RTMLoadImageAndAnnotations')])
    RTMCocoDataset(**arguments, test_mode=True)
    assert not any('mask' in line for line in logged), 'masks are checked although none are loaded'


def test_an_image_whose_objects_have_no_masks_is_skipped(masked, write, logged):
    """And objects of images that aren't listed don't count."""
    masked['annotations'][2]['segmentation'] = masked['annotations'][3]['segmentation'] = []
    masked['annotations'].append({**masked['annotations'][2], 'id': 99, 'image_id': 7})
    arguments = write(masked, images=True)
    dataset = RTMCocoDataset(**arguments, pipeline=STAGE_2, max_bad_share=0.2)
    skipped = next(i['file_name'] for i in masked['images'] if i['id'] == masked['annotations'][2]['image_id'])
    assert len(dataset) == 5 and dataset.num_samples == 6
    assert all(not dataset.get_data_info(n)['img_path'].endswith(skipped) for n in range(5))
    assert any('2 of 12 objects' in line and 'images with no other object are skipped: 1' in line for line in logged)
    assert [path.endswith(skipped) for path in dataset.bad_samples.known] == [True]
    with pytest.raises(BadSamplesError, match='1 of 6'):
        RTMCocoDataset(**arguments, pipeline=STAGE_2)


def test_a_file_with_boxes_only_is_refused_if_the_pipeline_loads_masks(content, write):
    with pytest.raises(
        RefusedError, match=r'ann\.json: 12 of 12 objects have no mask .*12 have no segmentation.* config'
    ):
        RTMCocoDataset(**write(content), pipeline=STAGE_1)


def test_a_class_of_crowds_only_has_no_object_to_learn_from(masked, write, logged):
    for annotation in masked['annotations']:
        annotation['iscrowd'] = int(annotation['category_id'] == 3)
    RTMCocoDataset(**write(masked), pipeline=STAGE_1)
    assert any("1 of 3 classes have no object to learn from: ['bar']" in line for line in logged)
    for annotation in masked['annotations']:
        annotation['iscrowd'] = 1
    with pytest.raises(RefusedError, match='must have an object to train on, got none'):
        RTMCocoDataset(**write(masked), pipeline=STAGE_1)


def test_a_damaged_run_length_code_is_a_bad_sample(masked, write, logged):
    masked['annotations'][3]['segmentation']['counts'] = 'damaged'
    dataset = RTMCocoDataset(**write(masked, images=True), pipeline=STAGE_2, max_bad_share=0.2)
    assert dataset.prepare_data(1) is None
    (line,) = [line for line in logged if 'Bad sample' in line]
    assert '1.png: mask of the object with the box' in line


number = st.one_of(st.integers(-5, 25), st.floats(-5, 25))
masks = st.one_of(
    st.none(),
    st.lists(st.lists(number, max_size=8), max_size=3),
    st.tuples(st.integers(-12, 25), st.integers(-12, 20), st.integers(0, 9), st.integers(0, 9)).map(
        lambda b: triangle(*b)
    ),
)


@settings(max_examples=80, deadline=None)
@given(masks)
def test_what_is_said_to_be_unusable_has_no_pixel(mask):
    """On an image of 20 x 12 pixels, enlarged 50 times."""
    annotation = dict(id=1, image_id=0, iscrowd=0, segmentation=mask)
    lost = unusable_masks([dict(id=0, width=20, height=12)], [annotation])
    outline = outline_of(mask, (12, 20))
    if outline is None:
        assert lost
    elif lost:
        assert not OutlineMasks.on_image([outline], (12, 20)).resize((600, 1000)).areas.any()


def test_annotations_are_checked_together():
    images = [dict(id=0, width=20, height=12), dict(id=1, width=12, height=20)]
    objects = [triangle(15, 1, 3, 3), triangle(1, 15, 3, 3), triangle(1, 15, 3, 3), [[0.0] * 6, *triangle(1, 1, 5, 5)]]
    annotations = [
        dict(id=number, image_id=image, iscrowd=crowd, segmentation=mask)
        for number, (image, crowd, mask) in enumerate(
            [(0, 0, objects[0]), (0, 0, objects[1]), (1, 0, objects[2]), (1, 0, objects[0]), (0, 0, objects[3])]
            + [(0, 1, None), (7, 0, None), (0, 0, None), (0, 0, [['x'] * 6]), (0, 0, {'size': [12, 20], 'counts': []})]
        )
    ]
    assert unusable_masks(images, annotations) == {NO_MASK: [7], NO_AREA: [1, 3, 8]}
    assert unusable_masks(images, []) == {}


# -- samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('pipeline', [STAGE_1, composable(STAGE_1), STAGE_2, composable(STAGE_2)], ids=range(4))
def test_boxes_are_around_the_masks_in_all_pipelines(masked, write, pipeline):
    """Masks at stride 4 know the box of a rectangle to four pixels."""
    for annotation in masked['annotations'][::2]:
        x, y, width, height = annotation['bbox']
        annotation['segmentation'] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    dataset = RTMCocoDataset(**write(masked, images=True), pipeline=pipeline)
    set_random_seed(1)
    compared = 0
    for index in list(range(6)) * 2:
        packed = dataset[index]
        objects = packed['data_samples'].gt_instances
        assert isinstance(objects.masks, StrideMasks) and objects.masks.pixels.shape == (len(objects), 16, 16)
        for box, pixels, center in zip(objects.bboxes.tensor, objects.masks.pixels, objects.masks.centers, strict=True):
            assert (center + 0.5 > box[:2] - 0.01).all() and (center + 0.5 < box[2:] + 0.01).all()
            if (box[2:] - box[:2]).min() > 12:
                ys, xs = np.nonzero(pixels.numpy())
                around = [4 * xs.min() + 2.5, 4 * ys.min() + 2.5, 4 * xs.max() + 2.5, 4 * ys.max() + 2.5]
                np.testing.assert_allclose(around, box, atol=4)
                compared += 1
    assert compared > 4


def test_masks_arrive_from_a_worker_as_they_were_packed(masked, write):
    config = dict(
        batch_size=3,
        sampler=dict(type='RTMDefaultSampler', shuffle=False),
        dataset=dict(type='RTMCocoDataset', **write(masked, images=True), pipeline=STAGE_2),
        collate_fn=dict(type='rtm_collate'),
    )
    got = []
    for workers in (0, 1):
        loader = Runner.build_dataloader(dict(config, num_workers=workers), seed=0)
        fetch_by_place(loader.dataset)
        got.append([sample.gt_instances for batch in loader for sample in batch['data_samples']])
    for here, there in zip(*got, strict=True):
        assert torch.equal(here.masks.pixels, there.masks.pixels) and torch.equal(here.bboxes, there.bboxes)
        assert torch.equal(here.masks.centers, there.masks.centers)
    assert sum(len(each) for each in got[0]) > 4


def test_detection_ignores_masks(masked, content, write):
    """With and without segmentations in the file, the samples of a pipeline without masks have the same bits."""
    pipeline = [dict(step) for step in STAGE_1]
    pipeline[0] = dict(type='RTMLoadImageAndAnnotations', img_scale=(64, 64))
    plain = json.loads(json.dumps(masked))
    for annotation in plain['annotations']:
        del annotation['segmentation']
    samples = []
    for number, each in enumerate((masked, plain)):
        dataset = RTMCocoDataset(**write(each, f'{number}.json', images=True), pipeline=pipeline)
        set_random_seed(0)
        samples.append([dataset[i] for i in range(6)])
    for first, second in zip(*samples, strict=True):
        assert torch.equal(first['inputs'], second['inputs'])
        objects = [sample['data_samples'].gt_instances for sample in (first, second)]
        assert torch.equal(objects[0].bboxes.tensor, objects[1].bboxes.tensor) and 'masks' not in objects[0]
