"""What is tested on what: classes by name and order, and one line for a config that can't serve."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from constant_model import write_constant_model
from mmdet.models import RTMDet
from mmdet.registry import MODELS
from model_info import INFO
from samples import CLASSES, SHAPES_WEIGHTS
from states import assert_same

from rtmdet_cli.main import main
from rtmdet_plugin.checkpoints.load_model import load_config
from rtmdet_plugin.checkpoints.mmyolo_keys import rename
from rtmdet_plugin.inference.evaluation import build_test, check_classes, evaluate, evaluate_checkpoint
from rtmdet_runtime import Detections
from rtmdet_runtime.masks import Masks


def test_classes_by_name_and_order():
    check_classes(('cat', 'dog'), ['cat', 'dog'])
    check_classes(('class 0', 'class 1'), ('cat', 'dog'))  # a model without class names
    with pytest.raises(ValueError, match='the model must have the 3 classes of the test set, got 2'):
        check_classes(('cat', 'dog'), ('cat', 'dog', 'cow'))
    with pytest.raises(ValueError, match="class 1 of the model must be 'cow', as in the test set, got 'dog'; use"):
        check_classes(('cat', 'dog'), ('cat', 'cow'))
    with pytest.raises(
        ValueError, match=r"class 0 of the model must be 'dog', .* got 'cat' \(the same names in another order"
    ):
        check_classes(('cat', 'dog'), ('dog', 'cat'))
    with pytest.raises(ValueError, match="class 1 of the model must be 'dog', as in the test set, got 'class 5'"):
        check_classes(('class 0', 'class 5'), ('class 0', 'dog'))


@pytest.mark.parametrize(
    ('changes', 'kind', 'said'),
    [
        ({'test_dataloader': None}, ValueError, 'rtmdet_demo.py must have test_dataloader'),
        ({'test_evaluator': None}, ValueError, 'rtmdet_demo.py must have test_evaluator'),
        ({'test_dataloader.dataset.data_root': '/nowhere'}, FileNotFoundError, 'no such file: /nowhere/val.json'),
        ({'test_evaluator.ann_file': '/nowhere.json'}, FileNotFoundError, 'test_evaluator of .*: /nowhere.json'),
        (
            {'test_dataloader.dataset.type': 'Nothing'},
            ValueError,
            'test_dataloader of .*rtmdet_demo.py can not be built',
        ),
        ({'test_dataloader.dataset.nothing': 1}, ValueError, "can not be built: .* argument 'nothing'"),
        ({'test_evaluator.type': 'Nothing'}, ValueError, 'test_evaluator of .*rtmdet_demo.py can not be built'),
    ],
)
def test_configs_that_can_not_serve(shapes_config, changes, kind, said):
    with pytest.raises(kind, match=said) as caught:
        build_test(shapes_config(changes))
    assert '\n' not in str(caught.value)


class Finder:
    """A detector that finds one box in every image, which contains no object."""

    def __init__(self, classes):
        self.info = type('Info', (), dict(classes=classes, mask_stride=0))

    def predict(self, images, batch_size):
        found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
        return [found] * len(images)


OTHERS = ('circle', 'dog', *CLASSES[2:])


def test_the_names_of_an_exported_model(shapes_config):
    assert evaluate(shapes_config(), Finder(CLASSES), 20)['coco/bbox_mAP'] == 0
    with pytest.raises(ValueError, match="class 1 of the model must be 'square', as in the test set, got 'dog'"):
        evaluate(shapes_config(), Finder(OTHERS))


def test_ap_of_masks(shapes, shapes_config, tmp_path):
    """The objects themselves as detections, with masks that have 65 % of their boxes."""
    content = json.loads((shapes / 'val.json').read_text())
    for annotation in content['annotations']:
        x, y, width, height = annotation['bbox']
        annotation['segmentation'] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    (tmp_path / 'masks.json').write_text(json.dumps(content))
    config = shapes_config({'test_evaluator.ann_file': str(tmp_path / 'masks.json')})
    config.test_evaluator.metric = ['bbox', 'segm']
    by_name = {image['file_name']: image for image in content['images']}

    def predict(images, batch_size):
        return [of_image(by_name[Path(image).name]) for image in images]

    def of_image(image):
        own = [annotation for annotation in content['annotations'] if annotation['image_id'] == image['id']]
        boxes = np.array([annotation['bbox'] for annotation in own], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([annotation['category_id'] for annotation in own], np.int64)
        y, x = np.mgrid[: image['height'], : image['width']] + 0.5
        arrays = [(x > x1) & (x < x2) & (y > y1) & (y < y1 + 0.65 * (y2 - y1)) for x1, y1, x2, y2 in boxes]
        masks = Masks.from_arrays(np.reshape(arrays, (len(own), *x.shape)))
        return Detections(boxes, np.ones(len(own), np.float32), labels - min(ids), masks=masks)

    ids = [category['id'] for category in content['categories']]
    detector = Finder(CLASSES)
    with pytest.raises(
        ValueError, match=r"test_evaluator.metric of .*rtmdet_demo.py must be 'bbox' for a model without"
    ):
        evaluate(config, detector)
    detector.info.mask_stride, detector.predict = 8, predict
    metrics = evaluate(config, detector, 20)
    assert metrics['coco/bbox_mAP'] == metrics['coco/segm_mAP_50'] == 1 and metrics['coco/segm_mAP_75'] == 0


def test_a_checkpoint_without_masks(shapes, shapes_config, shapes_checkpoint, tmp_path):
    (tmp_path / 'none.json').write_text(
        json.dumps({**json.loads((shapes / 'val.json').read_text()), 'annotations': []})
    )
    config = shapes_config({'test_evaluator.ann_file': str(tmp_path / 'none.json')})
    config.test_evaluator.metric = ['bbox', 'segm']
    with pytest.raises(ValueError, match='add --cfg-options test_evaluator.metric=bbox, or use a model with masks'):
        evaluate_checkpoint(config, shapes_checkpoint, tmp_path)


def test_the_names_of_a_checkpoint(shapes_config, shapes_checkpoint, tmp_path):
    content = torch.load(shapes_checkpoint, weights_only=True)
    content['meta'] = dict(dataset_meta=dict(CLASSES=OTHERS))  # as mmdet 2 spelt it
    torch.save(content, tmp_path / 'dog.pth')
    with pytest.raises(ValueError, match="class 1 of the model must be 'square', as in the test set, got 'dog'"):
        evaluate_checkpoint(shapes_config(), tmp_path / 'dog.pth', tmp_path)


def test_a_checkpoint_s_batch_and_the_callers_config(shapes_config, tmp_path, monkeypatch):
    batches = []

    def see(self, inputs, samples, **kwargs):
        batches.append(len(samples))
        return predict(self, inputs, samples, **kwargs)

    predict = RTMDet.predict
    monkeypatch.setattr(RTMDet, 'predict', see)
    mine = shapes_config({'test_dataloader.dataset.indices': 7})
    before = mine.pretty_text
    for _ in range(2):  # a second time in the same process
        metrics, log = evaluate_checkpoint(mine, SHAPES_WEIGHTS, tmp_path, batch_size=4)
        assert log.parents[1] == tmp_path and 'coco/bbox_mAP' in log.read_text()
    assert batches == [4, 3] * 2 and mine.pretty_text == before and 0 < metrics['coco/bbox_mAP'] <= 1


def test_a_checkpoint_of_mmyolo(shapes_model, shapes_config, tmp_path, monkeypatch):
    """The weights are also used by an EMA hook, which evaluates with its own copy of them."""
    used = []

    def see(self, *args, **kwargs):
        used.append({name: value.clone() for name, value in self.state_dict().items()})
        return predict(self, *args, **kwargs)

    predict = RTMDet.predict
    monkeypatch.setattr(RTMDet, 'predict', see)
    # The second change also removes our hook, which would rename the weights for the EMA hook.
    changes = {'custom_hooks': [], 'default_hooks.load_report.type': 'EMAHook'}
    config = shapes_config({'test_dataloader.dataset.indices': 1, **changes})
    meta = dict(dataset_meta=shapes_model.dataset_meta)
    torch.save(dict(state_dict=rename(shapes_model.state_dict(), 'mmyolo'), meta=meta), tmp_path / 'mmyolo.pth')
    evaluate_checkpoint(config, tmp_path / 'mmyolo.pth', tmp_path)
    assert_same(used[0], dict(shapes_model.state_dict()))


@pytest.fixture
def generated(tmp_path, monkeypatch) -> Path:
    """A checkpoint of the person config that finds nothing; its test set is generated, the work directory empty."""
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'val2017').mkdir()
    content = dict(images=[], annotations=[], categories=[dict(id=1, name='person')])
    for i in range(3):
        cv2.imwrite(str(tmp_path / 'val2017' / f'{i}.png'), np.zeros((64, 64, 3), np.uint8))
        content['images'].append(dict(id=i, file_name=f'{i}.png', width=64, height=64))
        content['annotations'].append(
            dict(id=i + 1, image_id=i, category_id=1, bbox=[8, 8, 40, 40], area=1600, iscrowd=0)
        )
    (tmp_path / 'annotations' / 'instances_val2017.json').write_text(json.dumps(content))
    monkeypatch.setenv('RTMDET_COCO', str(tmp_path))
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    config = load_config('rtmdet_plugin::rtmdet_nano_person.py')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    for layer in model.bbox_head.rtm_cls:
        torch.nn.init.constant_(layer.bias, -50)
    torch.save(model.state_dict(), tmp_path / 'nothing.pth')
    return tmp_path / 'nothing.pth'


def rtmdet_test(model: Path, *changes: str) -> Result:
    changes = ('test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False', *changes)
    options = [part for change in changes for part in ('--cfg-options', change)]
    return CliRunner().invoke(main, ['test', 'rtmdet_plugin::rtmdet_nano_person.py', str(model), *options])


def test_metrics_are_shown_and_the_rest_is_in_the_log(generated):
    """A model that finds nothing has an AP of 0."""
    done = rtmdet_test(generated)
    assert done.exit_code == 0 and 'coco/bbox_mAP ' in done.stdout and '0.000' in done.stdout, done.output
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f'log: {Path.cwd()}/work_dirs/rtmdet_nano_person/test/')
    assert len(done.stdout.splitlines()) == 11 and done.stdout.startswith(f'{generated}\n')
    log = Path(lines[0].removeprefix('log: ')).read_text()
    assert 'Config:' in log and 'coco/bbox_mAP: 0.0000' in log


def test_bad_images_are_reported_with_the_metrics(generated):
    (generated.parent / 'val2017' / '1.png').write_bytes(b'no image')
    done = rtmdet_test(generated, 'test_dataloader.dataset.max_bad_share=1')
    assert done.exit_code == 0 and 'coco/bbox_mAP ' in done.stdout, done.output
    assert 'WARNING: Bad sample: ' in done.stderr and 'got 8 bytes that are no image' in done.stderr
    assert 'Test: 1 bad samples of 3' in done.stderr


def test_warnings_of_the_dataset_are_shown_for_an_exported_model_too(generated):
    path = generated.parent / 'annotations' / 'instances_val2017.json'
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        annotation['bbox'] = [30, 30, 60, 60]  # x1, y1, x2, y2
    path.write_text(json.dumps(content))
    model = generated.parent / 'model.onnx'
    write_constant_model(model, [[0, 0, 10, 10]], [[0.9]], replace(INFO, classes=('person',)).to_properties())
    for tested in (model, generated):
        done = rtmdet_test(tested)
        assert done.exit_code == 0, done.output
        assert len([line for line in done.stderr.splitlines() if line.startswith('WARNING: ')]) == 1, done.stderr
        assert 'boxes reach past their image' in done.stderr


def test_a_failing_test_has_named_its_log(generated, monkeypatch):
    def fail(self):
        raise ValueError('boom')

    monkeypatch.setattr('mmengine.runner.Runner.test', fail)
    lines = rtmdet_test(generated).stderr.splitlines()
    assert Path(lines[0].removeprefix('log: ')).is_file() and lines[-1] == 'Error: boom'


def test_a_work_dir_that_can_not_be_written_names_the_option(generated):
    Path('file').touch()
    done = rtmdet_test(generated, 'work_dir=file/x')
    assert done.exit_code == 1 and 'can not be written' in done.stderr, done.output
    assert done.stderr.splitlines()[-1].endswith('; set another folder: --cfg-options work_dir=FOLDER')


def test_no_metric_is_an_error(generated):
    done = rtmdet_test(generated, 'test_evaluator.type=CocoMetric')
    assert done.exit_code == 1 and done.stdout == ''
    assert 'rtmdet_nano_person.py must give at least one metric, got none; if the model finds nothing' in done.stderr


def test_a_test_set_without_images(generated):
    path = generated.parent / 'annotations' / 'instances_val2017.json'
    path.write_text(json.dumps(dict(json.loads(path.read_text()), images=[], annotations=[])))
    done = rtmdet_test(generated)
    assert done.exit_code == 1 and done.stdout == ''
    assert 'Error: ' in done.stderr and 'image' in done.stderr.splitlines()[-1], done.stderr
