"""The grid of training samples: boxes where the objects are, both stages, and what it refuses."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from mmengine.config import Config

from rtmdet_cli.main import main
from rtmdet_plugin.datasets.preview import GAP, draw_sample, draw_samples, grid, training_set
from rtmdet_plugin.transforms.packing import RTMPackDetInputs


@pytest.fixture
def config(tmp_path):
    """A data set of six pictures with a rectangle each, and two stages of 64 px."""
    images, annotations = [], []
    for i in range(6):
        img = np.full((48, 64, 3), 40, np.uint8)
        img[10:30, 8 : 28 + i] = (0, 0, 255)
        cv2.imwrite(str(tmp_path / f'{i}.png'), img)
        images.append(dict(id=i, file_name=f'{i}.png', width=64, height=48))
        box = dict(bbox=[8, 10, 20 + i, 20], area=400, category_id=1)
        annotations.append(dict(id=i + 1, image_id=i, iscrowd=int(i == 5), **box))
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='rectangle')])
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    stage_2 = [
        dict(type='RTMLoadImageAndAnnotations'),
        dict(type='RTMRandomResizeCrop', scale=(64, 64), ratio_range=(1, 1), crop_size=(64, 64)),
        dict(type='RTMPackDetInputs'),
    ]
    mosaic = dict(type='RTMCachedMosaicResizeCrop', img_scale=(64, 64), ratio_range=(1, 1), crop_size=(96, 96))
    dataset = dict(type='RTMCocoDataset', data_root=str(tmp_path), ann_file='ann.json', data_prefix=dict(img=''))
    dataset.update(pipeline=[stage_2[0], mosaic, stage_2[2]])
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(backbone=dict(type='RTMCSPNeXt')),
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset)),
            default_hooks=dict(pipeline_switch=dict(switch_pipeline=stage_2, num_last_epochs=1)),
        )
    )


def test_boxes_are_drawn_around_their_objects():
    img = np.zeros((64, 80, 3), np.uint8)
    img[20:40, 30:60] = 255
    packed = RTMPackDetInputs(())(
        {
            'img': img,
            'gt_bboxes': np.array([[30, 20, 60, 40], [2, 50, 20, 60]], np.float32),
            'gt_bboxes_labels': np.array([1, 0]),
            'gt_ignore_flags': np.array([False, True]),
        }
    )
    drawn = draw_sample(packed, ('a', 'b'))
    assert drawn.shape == (64, 80, 3) and not np.array_equal(drawn, img)
    assert packed['inputs'].numpy().max() == 255 and (packed['inputs'][:, 0, 0] == 0).all()
    coloured = np.ptp(drawn.astype(int), axis=2) > 40
    for y, x in ((20, 45), (40, 45), (30, 30), (30, 60)):
        assert coloured[y, x], 'no edge of the box here'
    assert (drawn[50, 2:20] == 160).all(), 'what training ignores is grey'
    assert not coloured[25:29, 50:55].any()


def test_grid_is_square_and_white_between():
    picture = grid([np.zeros((10, 20, 3), np.uint8)] * 5)
    assert picture.shape == (2 * (10 + GAP) + GAP, 3 * (20 + GAP) + GAP, 3)
    assert (picture == 0).all(axis=2).sum() == 5 * 200 and (picture[:GAP] == 255).all()


@pytest.mark.parametrize(('stage', 'size'), [(1, (96, 96)), (2, (48, 64))])
def test_draws_either_stage_through_wrappers_and_repeats(config, stage, size):
    dataset = training_set(config, stage)
    picture = draw_samples(dataset, count=4, seed=3)
    assert picture.shape == (2 * (size[0] + GAP) + GAP, 2 * (size[1] + GAP) + GAP, 3)
    np.testing.assert_array_equal(picture, draw_samples(training_set(config, stage), count=4, seed=3))
    assert not np.array_equal(picture, draw_samples(training_set(config, stage), count=4, seed=4))


def test_more_samples_than_pictures(config):
    assert draw_samples(training_set(config, 2), count=30).shape[0] == 5 * (48 + GAP) + GAP


def test_bad_requests_are_refused(config):
    with pytest.raises(ValueError, match='count must be an integer of at least 1, got 0'):
        draw_samples([], count=0)
    config.default_hooks.pipeline_switch.num_last_epochs = 0
    with pytest.raises(ValueError, match='stage must be 1 for a config without stage 2, got 2'):
        training_set(config, 2)


def test_command_line(config, tmp_path):
    config.dump(tmp_path / 'config.py')
    command = ['draw-samples', str(tmp_path / 'config.py'), '--out', str(tmp_path / 'new' / 'samples.png')]
    command += ['--count', '2', '--stage', '2', '--cfg-options', 'default_hooks.pipeline_switch.num_last_epochs=3']
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert 'samples.png: 2 samples of stage 2' in done.output
    assert cv2.imread(str(tmp_path / 'new' / 'samples.png')).shape == (48 + 2 * GAP, 2 * (64 + GAP) + GAP, 3)


def test_no_image_of_the_dataset_is_replaced(config, tmp_path):
    config.dump(tmp_path / 'config.py')
    (tmp_path / 'link.png').symlink_to('3.png')
    before = (tmp_path / '3.png').read_bytes()
    for name, said in (
        ('3.png', 'would replace the input'),
        ('link.png', 'would replace'),
        ('ann.json', 'must end in'),
    ):
        command = ['draw-samples', str(tmp_path / 'config.py'), '--count', '1', '--out', str(tmp_path / name)]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1 and said in done.output
    assert (tmp_path / '3.png').read_bytes() == before
    (tmp_path / 'other.png').write_bytes(before)
    done = CliRunner().invoke(main, [*command[:-1], str(tmp_path / 'other.png')])
    assert 'other.png would replace a file that rtmdet did not write' in done.output
    assert (tmp_path / 'other.png').read_bytes() == before
