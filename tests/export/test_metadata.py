"""What an exported model says about itself: its thresholds."""

from rtmdet_plugin.export.metadata import model_info, thresholds
from rtmdet_runtime.choices import DEPLOY_THRESHOLDS


def chosen(model, **settings) -> dict:
    info = model_info(model, 'raw', None, **settings)
    return {name: getattr(info, name) for name in DEPLOY_THRESHOLDS}


def test_thresholds_are_those_for_use_unless_others_are_asked_for(shapes_model):
    own = thresholds(shapes_model.bbox_head.test_cfg)
    assert own['score_thr'] < DEPLOY_THRESHOLDS['score_thr'] and own.keys() == DEPLOY_THRESHOLDS.keys()
    assert chosen(shapes_model) == DEPLOY_THRESHOLDS
    assert chosen(shapes_model, for_map=True) == own
    for for_map, base in ((False, DEPLOY_THRESHOLDS), (True, own)):
        found = chosen(shapes_model, for_map=for_map, score_thr=0.0, iou_thr=None, max_per_img=7)
        assert found == base | dict(score_thr=0.0, max_per_img=7)
