"""configs/_base_/coco_instance.py: mmdet's pipelines for RTMDet-Ins, from data with masks to a packed sample."""

from pathlib import Path

import mmdet
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from rtmdet_plugin import find_step
from rtmdet_plugin.config.training_pipeline import move_pipeline

BASE = Path(__file__).parents[2] / 'configs' / '_base_' / 'coco_instance.py'
MMDETS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet' / 'rtmdet-ins_l_8xb32-300e_coco.py'


def built(pipeline, name):
    init_default_scope('mmdet')
    return repr(TRANSFORMS.build(find_step(pipeline, name)))


def test_mosaic_and_crops_are_mmdets():
    ours, theirs = Config.fromfile(BASE), Config.fromfile(MMDETS)
    moved = [move_pipeline(steps).steps for steps in (theirs.train_pipeline, theirs.train_pipeline_stage2)]
    for name in ('RTMLoadImageAndAnnotations', 'RTMCachedMosaicResizeCrop'):
        assert built(ours.train_pipeline, name) == built(moved[0], name)
    assert built(ours.train_pipeline_stage2, 'RTMLoadImageAndAnnotations') == built(
        moved[1], 'RTMLoadImageAndAnnotations'
    )
    # mmdet allows crops without objects in stage 2 as well, and drops them in the next step
    find_step(moved[1], 'RTMRandomResizeCrop')['allow_negative_crop'] = False
    assert built(ours.train_pipeline_stage2, 'RTMRandomResizeCrop') == built(moved[1], 'RTMRandomResizeCrop')


def test_the_data_loader_and_the_evaluation_have_masks():
    config, detection = (Config.fromfile(path) for path in (BASE, BASE.with_name('coco_detection.py')))
    assert config.train_dataloader.dataset.pipeline == config.train_pipeline
    assert config.val_evaluator.metric == config.test_evaluator.metric == ['bbox', 'segm']
    assert config.val_evaluator.ann_file == detection.val_evaluator.ann_file
    assert config.test_pipeline == detection.test_pipeline
    assert not find_step(detection.train_pipeline, 'RTMLoadImageAndAnnotations').get('with_mask', False)
