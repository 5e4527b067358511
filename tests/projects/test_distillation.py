"""The comparison of projects/distillation: its configs, its teacher, and its table."""

import importlib.util
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from rtmdet_plugin.engine.hooks.distillation import check_pair, load_teacher
from rtmdet_plugin.models.distillation import output_convs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'projects' / 'distillation'
spec = importlib.util.spec_from_file_location('compare', FOLDER / 'compare.py')
compare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare)


def test_the_runs_differ_only_in_the_teacher_which_fits(monkeypatch):
    monkeypatch.chdir(ROOT)  # the teacher's files are relative to it
    init_default_scope('mmdet')
    plain, distilled = (Config.fromfile(FOLDER / compare.CONFIGS[kind]) for kind in ('without', 'with'))
    settings = distilled.default_hooks.pop('distillation')
    assert plain.to_dict() == distilled.to_dict()
    teacher = load_teacher(settings.teacher_config, settings.teacher_ckpt)
    student = MODELS.build(plain.model)
    check_pair(student, teacher, teacher.dataset_meta['classes'])
    assert [[conv.out_channels for conv in output_convs(model.neck)] for model in (student, teacher)] == [
        [32, 32, 32], [64, 64, 64]
    ]  # fmt: skip


def test_the_table_compares_runs_of_equal_seeds(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '120')
    aps = {('without', 0): 0.2, ('with', 0): 0.5, ('with', 1): 0.3, ('without', 1): 0.4}
    compare.print_table([dict(teacher=kind, seed=seed, ap=ap, ap50=ap, step=0.25) for (kind, seed), ap in aps.items()])
    printed = capsys.readouterr().out
    assert '0.400 ± 0.141' in printed and '0.300 ± 0.141' in printed and '0.100 ± 0.283' in printed
    assert 'Difference of AP by seed: +0.300, -0.100' in printed
    assert compare.spread([0.25]) == '0.250'
