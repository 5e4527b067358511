"""Collating: the same batch as mmengine's, as fewer objects."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData

from rtmdet_plugin.datasets.collate import rtm_collate
from rtmdet_plugin.memory_file import FILE_NAME, join_in_file
from rtmdet_plugin.models import RTMDetDataPreprocessor
from rtmdet_plugin.sample_batch import DetSampleBatch
from rtmdet_plugin.stride_masks import StrideMasks


def item(seed, boxes=3, size=(32, 64), masks=False):
    generator = torch.Generator().manual_seed(seed)
    sample = DetDataSample(metainfo={'img_path': f'{seed}.jpg', 'img_shape': size, 'scale_factor': (0.5, 0.5)})
    for part, count in (('gt_instances', boxes), ('ignored_instances', seed % 2)):
        corners = torch.rand(count, 4, generator=generator)
        setattr(sample, part, InstanceData(bboxes=corners, labels=torch.arange(count) + seed))
    if masks:
        full = torch.rand(boxes, *size, generator=generator) > 0.5
        sample.gt_instances.masks = StrideMasks.from_full(full.numpy())
    return {'inputs': torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator), 'data_samples': sample}


def assert_same(first, second):
    assert first.metainfo == second.metainfo and set(first.keys()) == set(second.keys())
    for part in ('gt_instances', 'ignored_instances'):
        assert torch.equal(first.get(part).bboxes, second.get(part).bboxes)
        assert torch.equal(first.get(part).labels, second.get(part).labels)
        assert ('masks' in first.get(part)) == ('masks' in second.get(part))
    if 'masks' in first.gt_instances:
        assert torch.equal(first.gt_instances.masks.pixels, second.gt_instances.masks.pixels)
        assert torch.equal(first.gt_instances.masks.centers, second.gt_instances.masks.centers)


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('counts', [(), (0,), (0, 0), (3, 0, 5)], ids=str)
def test_samples_survive_the_way_from_a_worker(counts, masks):
    samples = DetSampleBatch(item(i, n, masks=masks)['data_samples'] for i, n in enumerate(counts))
    assert samples.__reduce__()[0] is not DetSampleBatch, 'the samples are pickled one by one'
    again = pickle.loads(pickle.dumps(samples))
    assert isinstance(again, DetSampleBatch) and len(again) == len(counts)
    for first, second in zip(samples, again, strict=True):
        assert_same(first, second)


def test_samples_with_more_than_boxes_and_labels_survive_too():
    samples = DetSampleBatch(item(i)['data_samples'] for i in range(2))
    samples[1].gt_instances.scores = torch.ones(3)
    assert samples.__reduce__()[0] is DetSampleBatch
    again = pickle.loads(pickle.dumps(samples))
    assert torch.equal(again[1].gt_instances.scores, torch.ones(3))
    assert_same(samples[0], again[0])


@pytest.mark.parametrize('case', ['sizes', 'some', 'type', 'ignored'])
def test_masks_that_can_not_be_joined_survive_too(case):
    samples = DetSampleBatch(item(i, masks=True)['data_samples'] for i in range(2))
    if case == 'sizes':
        samples[1] = item(1, size=(64, 64), masks=True)['data_samples']
    elif case == 'some':
        del samples[1].gt_instances.masks
    elif case == 'type':
        samples[1].gt_instances.masks = torch.ones(3, 8, 16)
    else:
        samples[1].ignored_instances.masks = samples[1].gt_instances.masks[:1]
    again = pickle.loads(pickle.dumps(samples))
    assert_same(samples[0], again[0])
    assert set(again[1].gt_instances.keys()) == set(samples[1].gt_instances.keys())
    assert len(samples.to('cpu')) == 2


@pytest.mark.parametrize('kind', [DetDataPreprocessor, RTMDetDataPreprocessor])
def test_preprocessors_make_the_same_of_it(kind):
    batch = [item(i, boxes) for i, boxes in enumerate((3, 0, 7))]
    preprocessor = kind(mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], pad_size_divisor=32)
    ours = preprocessor(pickle.loads(pickle.dumps(rtm_collate(batch))), training=True)
    theirs = preprocessor(pseudo_collate([item(i, boxes) for i, boxes in enumerate((3, 0, 7))]), training=True)
    assert torch.equal(ours['inputs'], theirs['inputs'])
    for first, second in zip(ours['data_samples'], theirs['data_samples'], strict=True):
        assert_same(first, second)
        assert first.batch_input_shape == (32, 64)


def test_masks_are_padded_by_the_loss():
    preprocessor = RTMDetDataPreprocessor(pad_mask=True, pad_size_divisor=32)
    found = preprocessor(rtm_collate([item(0, masks=True)]), training=True)['data_samples']
    expected = item(0, masks=True)['data_samples']
    assert torch.equal(found[0].gt_instances.masks.pixels, expected.gt_instances.masks.pixels)


def test_a_batch_is_not_pickled_to_be_pinned():
    samples = DetSampleBatch([item(0, masks=True)['data_samples']])
    assert samples.pin_memory() is samples


@pytest.mark.parametrize('way', ['from a worker', 'from the training process'])
def test_a_batch_moves_to_the_device_as_a_whole(way):
    samples = DetSampleBatch(item(i, boxes, masks=True)['data_samples'] for i, boxes in enumerate((3, 0, 7)))
    if way == 'from a worker':
        samples = pickle.loads(pickle.dumps(samples))
    # nothing is computed on this device, but tensors report it
    preprocessor = RTMDetDataPreprocessor().to('meta')
    preprocessor._device = torch.device('meta')
    moved = preprocessor.cast_data({'data_samples': samples})['data_samples']
    boxes = [sample.gt_instances.bboxes for sample in moved]
    assert [tuple(each.shape) for each in boxes] == [(3, 4), (0, 4), (7, 4)]
    assert {each.device.type for each in boxes} == {'meta'}
    assert all(each._base is boxes[0]._base and each._base.shape == (10, 4) for each in boxes)
    pixels = [sample.gt_instances.masks.pixels for sample in moved]
    assert [len(each) for each in pixels] == [3, 0, 7] and {each.device.type for each in pixels} == {'meta'}
    assert all(each._base is pixels[0]._base and each._base.shape == (10, 8, 16) for each in pixels)
    assert [sample.img_path for sample in moved] == ['0.jpg', '1.jpg', '2.jpg']


@pytest.mark.parametrize('count', [0, 2])
def test_samples_that_hold_more_move_one_by_one(count):
    samples = DetSampleBatch(item(i)['data_samples'] for i in range(count))
    for sample in samples:
        sample.gt_instances.scores = torch.ones(3)
    moved = samples.to('meta')
    assert isinstance(moved, DetSampleBatch) and len(moved) == count
    assert all(sample.gt_instances.scores.device.type == 'meta' for sample in moved)


def test_images_of_different_sizes_are_refused_with_their_names():
    with pytest.raises(ValueError, match=r'1\.jpg.*\(3, 32, 96\).*pseudo_collate'):
        rtm_collate([item(0), item(1, size=(32, 96))])


@pytest.mark.parametrize(('num_workers', 'masks'), [(0, False), (1, False), (1, True)])
def test_through_a_loader(num_workers, masks):
    data = [item(i, max(i - 2, 0), masks=masks) for i in range(6)]
    loader = torch.utils.data.DataLoader(data, batch_size=3, num_workers=num_workers, collate_fn=rtm_collate)
    for start, batch in zip((0, 3), loader, strict=True):
        assert batch['inputs'].shape == (3, 3, 32, 64) and batch['inputs'].dtype == torch.uint8
        for offset, sample in enumerate(batch['data_samples']):
            assert torch.equal(batch['inputs'][offset], data[start + offset]['inputs'])
            assert_same(sample, data[start + offset]['data_samples'])
        if num_workers and sys.platform == 'linux':
            files = Path('/proc/self/maps').read_text().count(f'memfd:{FILE_NAME}')
            assert files == 1 + (masks and start > 0), 'images or masks were not sent as a file'


@pytest.mark.skipif(sys.platform != 'linux', reason='files in memory are only on Linux')
def test_a_file_holds_the_images_in_order():
    images = [item(i)['inputs'] for i in range(3)] + [torch.arange(3 * 32 * 64).view(32, 64, 3).permute(2, 0, 1).byte()]
    joined = join_in_file(images)
    assert torch.equal(joined.view(4, 3, 32, 64), torch.stack(images)) and joined.is_contiguous() and joined.is_shared()
    assert torch.equal(join_in_file([image.float() for image in images]), joined.float())
