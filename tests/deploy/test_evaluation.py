"""What is tested on what: classes by name and order, and one line for a config that can't serve."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config

from rtmdet_plugin.deploy.evaluation import build_test, check_classes, evaluate, evaluate_checkpoint
from rtmdet_runtime import Detections


def test_classes_by_name_and_order():
    check_classes(('cat', 'dog'), ['cat', 'dog'])
    check_classes(('class 0', 'class 1'), ('cat', 'dog'))  # a model that nobody gave names
    with pytest.raises(ValueError, match='the model has 2 classes, the test set 3; accepted: the same'):
        check_classes(('cat', 'dog'), ('cat', 'dog', 'cow'))
    with pytest.raises(ValueError, match=r"label 1 is 'dog' in the model and 'cow' in the test set; accepted"):
        check_classes(('cat', 'dog'), ('cat', 'cow'))
    with pytest.raises(
        ValueError, match=r"label 0 is 'cat' .* 'dog' in the test set \(the same names in another order"
    ):
        check_classes(('cat', 'dog'), ('dog', 'cat'))
    with pytest.raises(ValueError, match="label 1 is 'class 5' in the model and 'dog'"):
        check_classes(('class 0', 'class 5'), ('class 0', 'dog'))


@pytest.fixture
def config(person_config, data_root) -> Config:
    """The person config on `coco_tiny`, a function: changes -> config."""
    root = data_root / 'coco_tiny'

    def get(changes: dict | None = None) -> Config:
        config = copy.deepcopy(person_config)
        config.test_dataloader.dataset.data_root = str(root)
        config.test_dataloader.update(num_workers=0, persistent_workers=False)
        config.test_evaluator.ann_file = str(root / 'annotations' / 'instances_val2017.json')
        config.merge_from_dict(changes or {})
        return config

    return get


@pytest.mark.parametrize(
    ('changes', 'kind', 'said'),
    [
        ({'test_dataloader': None}, ValueError, 'nano_person.py has no test_dataloader'),
        ({'test_evaluator': None}, ValueError, 'nano_person.py has no test_evaluator'),
        (
            {'test_dataloader.dataset.data_root': '/nowhere'},
            FileNotFoundError,
            'no such file: /nowhere/annotations/inst',
        ),
        ({'test_evaluator.ann_file': '/nowhere.json'}, FileNotFoundError, 'test_evaluator of .*: /nowhere.json'),
        (
            {'test_dataloader.dataset.type': 'Nothing'},
            ValueError,
            'test_dataloader of .*nano_person.py can not be built',
        ),
        ({'test_dataloader.dataset.nothing': 1}, ValueError, "can not be built: .* argument 'nothing'"),
        ({'test_evaluator.type': 'Nothing'}, ValueError, 'test_evaluator of .*nano_person.py can not be built'),
    ],
)
def test_configs_that_can_not_serve(config, changes, kind, said):
    with pytest.raises(kind, match=said) as caught:
        build_test(config(changes))
    assert '\n' not in str(caught.value)


class Finder:
    """A detector that finds one box of no object in every picture."""

    def __init__(self, classes):
        self.info = type('Info', (), dict(classes=classes))

    def predict(self, images, batch_size):
        found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
        return [found] * len(images)


def test_the_names_of_an_exported_model(config):
    assert evaluate(config(), Finder(('person',)), 20)['coco/bbox_mAP'] == 0
    with pytest.raises(ValueError, match="label 0 is 'dog' in the model and 'person'"):
        evaluate(config(), Finder(('dog',)))


def test_the_names_of_a_checkpoint(config, weights_root, tmp_path):
    content = torch.load(weights_root / 'rtmdet_nano_person.pth', weights_only=True)
    content['meta'] = dict(dataset_meta=dict(CLASSES=('dog',)))  # as mmdet 2 spelt it
    torch.save(content, tmp_path / 'dog.pth')
    with pytest.raises(ValueError, match="label 0 is 'dog' in the model and 'person'"):
        evaluate_checkpoint(config(), tmp_path / 'dog.pth')


def test_a_checkpoint_s_batch_and_the_callers_config(config, weights_root, monkeypatch):
    batches = []
    from mmdet.models import RTMDet

    def see(self, inputs, samples, **kwargs):
        batches.append(len(samples))
        return predict(self, inputs, samples, **kwargs)

    predict = RTMDet.predict
    monkeypatch.setattr(RTMDet, 'predict', see)
    mine = config({'test_dataloader.dataset.indices': 7})
    before = mine.pretty_text
    for _ in range(2):  # a second time in the same process
        metrics = evaluate_checkpoint(mine, weights_root / 'rtmdet_nano_person.pth', batch_size=4)
    assert batches == [4, 3] * 2 and mine.pretty_text == before and 0 <= metrics['coco/bbox_mAP'] <= 1
