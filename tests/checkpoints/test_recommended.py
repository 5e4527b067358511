"""`recommended.json`: the score threshold that the report recommends, which the export of its checkpoint takes."""

import pytest
from click.testing import CliRunner
from samples import SHAPES_CONFIG

from rtmdet_cli.main import main
from rtmdet_plugin.checkpoints.recommended import NAME, recommended_score_thr, save_recommended
from rtmdet_plugin.export import onnx_export
from rtmdet_plugin.export.metadata import model_info


def test_it_belongs_to_one_checkpoint(tmp_path):
    best = tmp_path / 'best.pth'
    assert recommended_score_thr(best) is None
    save_recommended(best, 0.4, 0.8)
    save_recommended(best, 0.5, 0.9)
    assert recommended_score_thr(best) == 0.5
    assert recommended_score_thr(tmp_path / 'epoch_1.pth') is None


@pytest.mark.parametrize(
    'content', ['{', '[]', '{"checkpoint": "a.pth"}', '{"checkpoint": "a.pth", "score_thr": null}']
)
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(ValueError, match=rf'{NAME}.* must be '):
        recommended_score_thr(tmp_path / 'a.pth')


def test_export_takes_it_unless_another_is_given(shapes, shapes_model, shapes_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv('RTMDET_DEMO_DATA', str(shapes))
    taken = []

    def info_only(model, path, *, form, size, for_map, score_thr, **_):
        taken.append(model_info(model, form, size, for_map=for_map, score_thr=score_thr))
        return taken[-1]

    monkeypatch.setattr(onnx_export, 'export_onnx', info_only)
    best = tmp_path / 'best.pth'
    best.write_bytes(shapes_checkpoint.read_bytes())
    save_recommended(best, 0.375, 0.9)
    for options in ([], ['--score-thr', '0.6'], ['--for-map']):
        done = CliRunner().invoke(
            main, ['export', str(SHAPES_CONFIG), str(best), '-o', str(tmp_path / 'm.onnx'), *options]
        )
        assert done.exit_code == 0 and ('0.375: recommended by' in done.output) == (not options), done.output
    assert [info.score_thr for info in taken] == [0.375, 0.6, shapes_model.test_cfg.score_thr]
