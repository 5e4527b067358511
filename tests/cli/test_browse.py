"""The command `rtmdet browse`: boxes where the objects are, the data and both stages, and what it refuses."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from labelled_data import write_coco, write_voc, write_yolo
from mmdet.datasets.transforms import PackDetInputs
from mmdet.structures.mask import PolygonMasks
from mmengine.config import Config

from rtmdet_cli.main import main
from rtmdet_plugin.datasets.preview import GAP, draw_sample, draw_samples, grid, training_set
from rtmdet_plugin.doctor.browse import draw_data
from rtmdet_plugin.doctor.training_config import wants_masks
from rtmdet_plugin.training.formats.find_format import read_all
from rtmdet_plugin.transforms.packing import RTMPackDetInputs
from rtmdet_runtime.drawing import label_colour


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
    drawn, caption = draw_sample(packed, ('a', 'b'))
    assert caption == '1 b'
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


@pytest.mark.parametrize('model', ['tiny', 'ins-tiny'])
def test_masks_of_the_data_are_drawn_for_a_model_with_masks(tmp_path, model):
    write_coco(tmp_path / 'pets', 4)
    file = tmp_path / 'pets' / 'all.json'
    content = json.loads(file.read_text())
    for item, part in zip(content['annotations'], (1, 2, 3, 4, 5, 6), strict=True):
        item['bbox'], item['segmentation'] = [10, 10, 40, 40], [[10, 10, 50, 10, 50, 30, 10, 30]]  # the upper half
        if part == 2:
            item['segmentation'] = dict(size=[60, 80], counts='damaged')
    file.write_text(json.dumps(content))
    for name in ('a 0', 'a 1', 'a 2', 'a 3'):
        cv2.imwrite(str(tmp_path / 'pets' / 'images' / f'{name}.png'), np.zeros((60, 80, 3), np.uint8))
    (picture, *_) = draw_data(read_all(tmp_path / 'pets'), 'train', 4, 0, wants_masks('pets', model))
    scale = picture.image.shape[1] / 80
    upper, lower = (picture.image[int(y * scale), int(45 * scale)] for y in (27, 40))
    colours = [np.round(np.array(label_colour(label)) / 2) for label in (0, 1)]
    assert any((upper == colour).all() for colour in colours) == (model == 'ins-tiny') and (lower == 0).all()


@pytest.mark.parametrize('pack', [RTMPackDetInputs, PackDetInputs])
def test_masks_are_half_transparent_and_lie_on_their_objects(pack):
    results = {
        'img': np.full((66, 80, 3), 100, np.uint8),
        'gt_bboxes': np.array([[16, 20, 61, 60]], np.float32),
        'gt_bboxes_labels': np.array([1]),
        'gt_ignore_flags': np.array([False]),
        'gt_masks': PolygonMasks([[np.array([20.0, 24, 60, 24, 60, 56])]], 66, 80),
    }
    packed = pack(())(results)
    changed = (draw_sample(packed, ('a', 'b'))[0] != 100).any(axis=2)
    assert changed[30, 50] and not changed[50, 30], 'the triangle is above the diagonal'
    inside = changed[24:56, 20:58]
    assert inside.mean() == pytest.approx(0.5, abs=0.1)
    np.testing.assert_array_equal(
        draw_sample(packed, ('a', 'b'))[0][30, 50], np.round(50 + np.array(label_colour(1)) / 2)
    )


def drawn(dataset, **options) -> np.ndarray:
    return grid([picture.image for picture in draw_samples(dataset, **options)])


@pytest.mark.parametrize(('stage', 'size'), [(1, (96, 96)), (2, (48, 64))])
def test_draws_either_stage_through_wrappers_and_repeats(config, stage, size):
    dataset = training_set(config, stage)
    picture = drawn(dataset, count=4, seed=3)
    assert picture.shape == (2 * (size[0] + GAP) + GAP, 2 * (size[1] + GAP) + GAP, 3)
    np.testing.assert_array_equal(picture, drawn(training_set(config, stage), count=4, seed=3))
    assert not np.array_equal(picture, drawn(training_set(config, stage), count=4, seed=4))


def test_more_samples_than_pictures(config):
    assert drawn(training_set(config, 2), count=30).shape[0] == 5 * (48 + GAP) + GAP


def test_bad_requests_are_refused(config):
    with pytest.raises(ValueError, match='count must be an integer of at least 1, got 0'):
        draw_samples([], count=0)
    config.default_hooks.pipeline_switch.num_last_epochs = 0
    with pytest.raises(ValueError, match='stage must be 1 for a config without stage 2, got 2'):
        training_set(config, 2)


def test_command_line(config, tmp_path):
    config.dump(tmp_path / 'config.py')
    command = ['browse', str(tmp_path / 'config.py'), '--out', str(tmp_path / 'new' / 'samples.png')]
    command += ['--count', '2', '--stage', '2', '--cfg-options', 'default_hooks.pipeline_switch.num_last_epochs=3']
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.output.endswith('samples.png: 2 samples of stage 2\n')
    assert cv2.imread(str(tmp_path / 'new' / 'samples.png')).shape == (48 + 2 * GAP, 2 * (64 + GAP) + GAP, 3)


@pytest.mark.parametrize(
    ('write', 'stage', 'size'),
    [(write_voc, 'data', (240, 320)), (write_yolo, '1', (192, 192)), (write_coco, '2', (192, 192))],
)
def test_a_folder_as_it_is_and_in_each_stage(write, stage, size, tmp_path):
    """Small images are enlarged; the images of the stages have the size that `rtmdet train` would choose."""
    root, out = tmp_path / "my 'dätä' 🐈", tmp_path / 'a.png'
    write(root, 6, 3)
    done = CliRunner().invoke(main, ['browse', str(root), '-o', str(out), '--count', '4', '--stage', stage])
    assert done.exit_code == 0, done.output
    assert cv2.imread(str(out)).shape == (2 * (size[0] + GAP) + GAP, 2 * (size[1] + GAP) + GAP, 3)


def test_names_of_any_kind_are_on_the_page(tmp_path):
    """Half of a character crashes OpenCV's drawing of texts."""
    write_yolo(tmp_path / 'pets', 3, 2)
    names = '["<b>猫</b>", "Hündchen \\ud83d"]'
    (tmp_path / 'pets' / 'data.yaml').write_text(f'train: images/train\nval: images/val\nnames: {names}')
    command = ['browse', str(tmp_path / 'pets' / 'data.yaml'), '--split', 'val', '-o', str(tmp_path / 'a.html')]
    for _ in range(2):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0 and done.output.endswith('a.html: 2 images of val\n'), done.output
    page = (tmp_path / 'a.html').read_text()
    assert '&lt;b&gt;猫&lt;/b&gt;' in page and 'Hündchen ?' in page and '<b>' not in page
    assert page.count('<figure>') == 2


def test_images_that_can_not_be_decoded_and_boxes_far_outside(tmp_path):
    write_coco(tmp_path / 'pets', 3)
    for name in ('a 0.png', 'a 2.png'):
        image = tmp_path / 'pets' / 'images' / name
        image.write_bytes(image.read_bytes()[:-20])
    content = json.loads((tmp_path / 'pets' / 'all.json').read_text())
    content['annotations'][1]['bbox'] = [-1e30, 5, 1e38, 20]
    (tmp_path / 'pets' / 'all.json').write_text(json.dumps(content))
    command = ['browse', str(tmp_path / 'pets'), '-o', str(tmp_path / 'a.png')]
    done = CliRunner().invoke(main, command)
    assert done.output.endswith('a.png: 1 images of train\n')
    (tmp_path / 'pets' / 'images' / 'a 1.png').write_bytes(b'')
    assert 'train must have an image that can be decoded, got none of 3' in CliRunner().invoke(main, command).output
    done = CliRunner().invoke(main, [*command, '--split', 'val'])
    assert 'split must be one of train, got' in done.output
    assert CliRunner().invoke(main, [*command, '--split', 'val', '--stage', '2']).exit_code == 2


def test_no_image_of_the_dataset_is_replaced(config, tmp_path):
    config.dump(tmp_path / 'config.py')
    (tmp_path / 'link.png').symlink_to('3.png')
    before = (tmp_path / '3.png').read_bytes()
    for name, said in (
        ('3.png', 'would replace the input'),
        ('link.png', 'would replace'),
        ('ann.json', 'must end in'),
    ):
        command = ['browse', str(tmp_path / 'config.py'), '--count', '1', '--out', str(tmp_path / name)]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1 and said in done.output
    assert (tmp_path / '3.png').read_bytes() == before
    (tmp_path / 'other.png').write_bytes(before)
    done = CliRunner().invoke(main, [*command[:-1], str(tmp_path / 'other.png')])
    assert 'other.png would replace a file that rtmdet did not write' in done.output
    assert (tmp_path / 'other.png').read_bytes() == before
