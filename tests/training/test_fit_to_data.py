"""The numbers follow from the data as the rules say, and from what the user has set."""

import dataclasses

import numpy as np
import pytest

from rtmdet_plugin.config.augmentation import Augmentation
from rtmdet_plugin.engine.hooks.before_run import run_findings
from rtmdet_plugin.training.fit_to_data import USED, Choice, Facts, batch_size, facts_about, fit, input_size
from rtmdet_plugin.training.memory import Memory

BLOOD_CELLS = Facts(
    images=205,
    object_sides=np.full(2000, 0.15),
    long_side=640,
    default_size=320,
    default_augmentation=Augmentation(0.1, 2.0, 0.5),
    pretrained=True,
    known=False,
    device='cpu',
    cores=2,
)


def values(facts, **given):
    return {name: choice.value for name, choice in fit(facts, given).items()}


def test_numbers_of_a_small_dataset():
    assert values(BLOOD_CELLS) == dict(
        imgsz=320,
        batch=8,
        epochs=77,
        stage2=20,
        augmentation=(0.5, 1.5, 0.25),
        lr=0.002,
        warmup=200,
        ema=(0.005, 500),
        val_interval=8,
        val_begin=1,
        workers=1,
    )


def test_a_long_run_has_the_recipes_numbers():
    coco = dataclasses.replace(BLOOD_CELLS, images=117_266, pretrained=False, device='cuda', cores=80, processes=8)
    found = values(coco, batch=32, epochs=300)
    assert {name: found[name] for name in ('lr', 'warmup', 'stage2', 'ema', 'workers', 'augmentation')} == dict(
        lr=0.004, warmup=1000, stage2=20, ema=(0.0002, 2000), workers=8, augmentation=coco.default_augmentation
    )


def test_what_the_user_sets_is_kept_and_the_others_follow():
    found = fit(BLOOD_CELLS, dict(epochs=10, batch=4, imgsz=None))
    assert found['epochs'] == Choice(10, 'set by you') and found['stage2'].value == 3
    assert found['augmentation'].value == Augmentation(0.75, 1.25, 0.1)
    assert found['lr'].value == 0.0014 and found['warmup'].value == 10 * 52 // 10


@pytest.mark.parametrize('images', [1, 60, 1_000, 100_000])
@pytest.mark.parametrize('epochs', [None, 1, 2])
def test_no_number_is_one_that_the_report_before_the_first_step_warns_of(images, epochs):
    found = values(dataclasses.replace(BLOOD_CELLS, images=images), epochs=epochs)
    steps = -(-images // found['batch']) * found['epochs']
    assert run_findings.check_stages(found['epochs'], found['stage2']).level == 'ok'
    assert run_findings.check_warm_up(found['warmup'], steps).level == 'ok' or steps < 5
    assert run_findings.check_batch_norm(found['batch'], 1, False).level == 'ok'
    assert 0 < found['ema'][0] <= 0.01 and found['val_interval'] >= 1


def test_small_objects_get_a_larger_input():
    """Half of the objects are 10 px wide in images of 640 px, which are 5 px at 320 px and 8 px at 512 px."""
    sides = np.repeat([10 / 640, 0.3], 10)
    choice = input_size(dataclasses.replace(BLOOD_CELLS, object_sides=sides))
    assert choice.value == 512 and '50% of the objects' in choice.reason
    assert input_size(dataclasses.replace(BLOOD_CELLS, object_sides=sides / 10)).value == 640, 'not above twice'
    assert input_size(dataclasses.replace(BLOOD_CELLS, object_sides=sides, long_side=320)).value == 320


def test_small_images_get_a_smaller_input():
    assert input_size(dataclasses.replace(BLOOD_CELLS, long_side=60)).value == 128


def test_a_batch_that_does_not_fit_is_halved():
    """A step takes 1 GB and 2 GB per image: 8 images take 17 GB, 4 take 9 GB."""
    sizes = []

    def memory(free: float) -> Facts:
        return dataclasses.replace(BLOOD_CELLS, step_memory=lambda size: sizes.append(size) or Memory(1e9, 2e9, free))

    choice = batch_size(memory(17.1e9 / USED), 320)
    assert choice.value == 8 and 'a step takes about 17.0 of 24.4 GB free' in choice.reason and sizes == [320]
    choice = batch_size(memory(16.9e9 / USED), 320)
    assert choice.value == 4 and '8 would take more than 70% of the free memory' in choice.reason
    assert batch_size(memory(1e9), 320).value == 4, 'batch norm needs 4'
    assert batch_size(dataclasses.replace(memory(1e12), device='cuda', images=10_000), 320).value == 32


def test_memory_is_not_measured_for_a_batch_that_is_set():
    def fail(size):
        raise AssertionError('measured')

    facts = dataclasses.replace(BLOOD_CELLS, step_memory=fail)
    assert fit(facts, dict(batch=2))['batch'].value == 2


def test_facts_count_background_images_but_not_crowds():
    content = dict(
        images=[dict(id=1, width=100, height=50), dict(id=2, width=80, height=200)],
        annotations=[
            dict(image_id=1, bbox=[0, 0, 10, 20], iscrowd=0),
            dict(image_id=1, bbox=[0, 0, 50, 50], iscrowd=1),
        ],
    )
    facts = facts_about(
        content, default_size=640, default_augmentation=None, pretrained=False, known=False, device='cpu', cores=1
    )
    assert facts.images == 2 and facts.object_sides.tolist() == [0.1] and 190 < facts.long_side <= 200
