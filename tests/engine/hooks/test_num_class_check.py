"""A run whose model and datasets have different classes stops before anything is computed."""

import json
import shutil

import pytest
from mmengine.evaluator import BaseMetric, Evaluator
from torch import nn

HOOKS = dict(num_class_check=dict(type='RTMNumClassCheckHook'))


@pytest.fixture
def toy(make_runner):
    """The conftest's toy detector class, with a chosen number of classes."""
    kind = type(make_runner().model)
    return lambda num_classes: kind(num_classes)


def test_agreement_trains(make_runner, coco):
    runner = make_runner(max_epochs=1, hooks=HOOKS, val_dataset=coco(test_mode=True))
    runner.train()
    assert runner.record.seen


def test_other_number_stops_before_the_first_step(make_runner, toy, tmp_path):
    # The checkpoint doesn't exist, because the check comes before loading.
    runner = make_runner(model=toy(80), hooks=HOOKS, load_from=str(tmp_path / 'absent.pth'))
    with pytest.raises(ValueError) as error:
        runner.train()
    for part in (
        'num_classes=80',
        'the train dataset has 2 classes: (disc, square)',
        '--cfg-options model.bbox_head.num_classes=2',
        'metainfo',
    ):
        assert part in str(error.value)
    assert runner.record.seen == []
    assert not list((tmp_path / 'work').rglob('*.pth'))


@pytest.mark.parametrize('kind', ['ConcatDataset', 'RepeatDataset', 'nested'])
def test_sees_through_wrappers(make_runner, toy, coco, kind):
    concat = dict(type='ConcatDataset', datasets=[coco(), coco()])
    wrapped = dict(
        ConcatDataset=concat,
        RepeatDataset=dict(type='RepeatDataset', times=2, dataset=coco()),
        nested=dict(type='RepeatDataset', times=2, dataset=concat),
    )[kind]
    with pytest.raises(ValueError, match='num_classes=3, but the train dataset has 2'):
        make_runner(model=toy(3), dataset=wrapped, hooks=HOOKS).train()


@pytest.mark.parametrize('classes', [('square', 'disc'), ('disc', 'cube')])
def test_val_classes_in_other_order_or_by_other_names(make_runner, coco, classes):
    val = coco(test_mode=True, metainfo=dict(classes=classes))
    with pytest.raises(ValueError, match=rf'val dataset has other classes.*\({classes[0]}, {classes[1]}\) against'):
        make_runner(hooks=HOOKS, val_dataset=val).train()


def test_other_number_in_val_only(make_runner, coco):
    val = coco(test_mode=True, metainfo=dict(classes=('disc',)))
    with pytest.raises(ValueError, match=r'num_classes=2, but the val dataset has 1 classes: \(disc\)'):
        make_runner(hooks=HOOKS, val_dataset=val).train()


def test_validation_and_test_without_training(make_runner, toy, coco):
    val = coco(test_mode=True)
    with pytest.raises(ValueError, match='num_classes=5, but the val dataset has 2'):
        make_runner(model=toy(5), hooks=HOOKS, val_dataset=val).val()
    loader = dict(batch_size=5, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=val)
    evaluator = Evaluator(metrics=[Nothing()])
    runner = make_runner(
        model=toy(5), hooks=HOOKS, test_dataloader=loader, test_cfg=dict(type='TestLoop'), test_evaluator=evaluator
    )
    with pytest.raises(ValueError, match='num_classes=5, but the test dataset has 2'):
        runner.test()


class Nothing(BaseMetric):
    def process(self, data_batch, data_samples):
        pass

    def compute_metrics(self, results):
        return {}


def test_one_string_is_not_a_list_of_classes(make_runner, coco, pictures):
    dataset = coco(metainfo=dict(classes=('disc', 'square')))
    runner = make_runner(dataset=dataset, hooks=HOOKS)
    built = runner.build_train_loop(runner._train_loop)
    built.dataloader.dataset._metainfo['classes'] = 'disc'
    runner._train_loop = built
    with pytest.raises(
        ValueError, match=r"metainfo.classes of the .* must be a tuple .* got the string 'disc'; write \('disc',\)"
    ):
        runner.train()


def test_many_classes_are_shortened(make_runner, coco, pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / 'many')
    content = json.loads((root / 'boxes.json').read_text())
    content['categories'] = [dict(id=i, name=f'kind{i}') for i in range(1, 31)]
    (root / 'boxes.json').write_text(json.dumps(content))
    dataset = coco(type='RTMCocoDataset', data_root=str(root), metainfo={})
    with pytest.raises(ValueError, match=r'has 30 classes: \(kind1, .*kind10, \.\.\. 20 more\)') as error:
        make_runner(dataset=dataset, hooks=HOOKS).train()
    assert 'kind11' not in str(error.value)


def test_dataset_without_classes_is_reported(make_runner, coco):
    runner = make_runner(max_epochs=1, hooks=HOOKS)
    loop = runner.build_train_loop(runner._train_loop)
    del loop.dataloader.dataset._metainfo['classes']
    runner._train_loop = loop
    runner.train()
    assert 'The train dataset has no class names' in runner.log()


def test_model_without_such_a_head_compares_datasets_only(make_runner, toy, coco):
    model = toy(2)
    model.bbox_head = nn.Identity()
    make_runner(max_epochs=1, model=model, hooks=HOOKS).train()
    val = coco(test_mode=True, metainfo=dict(classes=('square', 'disc')))
    with pytest.raises(ValueError, match='other classes'):
        make_runner(model=model, hooks=HOOKS, val_dataset=val).train()
