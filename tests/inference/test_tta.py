"""Test-time augmentation by the configs' `tta_model` and `tta_pipeline`."""

import uuid

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner


def tta_runner(config: Config, checkpoint, work_dir) -> Runner:
    """Set up a test as `mim test mmdet CONFIG --checkpoint FILE --tta` does."""
    config.model = ConfigDict(**config.tta_model, module=config.model)
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.load_from, config.work_dir, config.experiment_name = str(checkpoint), str(work_dir), uuid.uuid4().hex
    return Runner.from_cfg(config)


def test_it_finds_the_shapes_in_all_views(shapes_config, shapes_checkpoint, tmp_path):
    config = shapes_config({'model.test_cfg.score_thr': 0.05})  # fewer boxes to merge
    runner = tta_runner(config, shapes_checkpoint, tmp_path)
    detector, views = runner.model.module, []
    predict = detector.predict

    def watched(inputs, samples, **kwargs):
        views.append(samples[0].metainfo)
        return predict(inputs, samples, **kwargs)

    detector.predict = watched
    metrics = runner.test()
    sides = {(round(max(view['ori_shape']) * view['scale_factor'][0]), view['flip']) for view in views}
    assert sides == {(side, flip) for side in (64, 128, 192) for flip in (True, False)}
    assert metrics['coco/bbox_mAP_50'] > 0.7, 'less than without TTA, because the shapes had one size in training'


def test_another_number_of_classes_stops_it(shapes_config, shapes_checkpoint, tmp_path):
    config = shapes_config({'model.bbox_head.num_classes': 3})
    with pytest.raises(ValueError, match='num_classes=3, but the test dataset has 4'):
        tta_runner(config, shapes_checkpoint, tmp_path).test()
