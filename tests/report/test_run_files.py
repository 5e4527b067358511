"""Files of a training: joined sessions, interrupted ones, warnings, bad samples, settings with reasons."""

import pytest
from mmengine.config import Config
from training_run import steps, validation, write_session

from rtmdet_plugin.report.run_files import PREPARED, read_run, save_prepared
from rtmdet_plugin.report.settings import settings_of
from rtmdet_plugin.report.training_plots import training_plots

CONFIG = Config(dict(train_cfg=dict(max_epochs=6), default_hooks=dict(pipeline_switch=dict(num_last_epochs=2))))


def test_a_resumed_session_takes_the_place_of_the_steps_that_it_repeats(tmp_path):
    first = [*steps(1, 2), validation(2, 0.3), *steps(3, 4), validation(4, 0.9)]
    write_session(tmp_path, '20260101_000000', CONFIG, first)
    write_session(tmp_path, '20260102_000000', CONFIG, [*steps(3, 5), validation(4, 0.4)])
    run = read_run(tmp_path)
    assert [record['step'] for record in run.steps] == list(range(2, 21, 2))
    assert run.epochs == [i / 2 for i in range(1, 11)]
    assert [(r['step'], r['coco/bbox_mAP']) for r in run.validations] == [(2, 0.3), (4, 0.4)]
    assert run.best('coco/bbox_mAP')['step'] == 4 and run.best('other') is None
    assert (run.finished_epochs, run.max_epochs, run.stage2) == (4, 6, 4)


def test_a_running_training_has_what_was_written_so_far(tmp_path):
    folder = write_session(tmp_path, '20260101_000000', CONFIG, [])
    assert read_run(tmp_path).steps == [] and read_run(tmp_path).finished_epochs == 0
    with open(folder / 'vis_data' / 'scalars.json', 'a') as file:
        file.write('{"loss": 1.5, "epoch": 1, "iter": 2, "step": 2}\n{"loss": 1.4, "epo')
    run = read_run(tmp_path)
    assert [record['loss'] for record in run.steps] == [1.5] and run.validations == []


def test_a_test_in_the_work_directory_is_no_part_of_the_training(tmp_path):
    write_session(tmp_path, '20260101_000000', CONFIG, steps(1, 6))
    tested = write_session(tmp_path, '20260102_000000', Config(dict(model='other')), [])
    (tested / 'vis_data' / 'scalars.json').unlink()
    assert read_run(tmp_path).max_epochs == 6


def test_a_run_without_vis_data_has_its_config_and_log(tmp_path):
    folder = write_session(tmp_path, '20260101_100000', CONFIG, [], LOG)
    (folder / 'vis_data' / 'config.py').rename(tmp_path / 'mine.py')
    (folder / 'vis_data' / 'scalars.json').unlink()
    run = read_run(tmp_path)
    assert (run.max_epochs, run.steps, run.log.seconds) == (6, [], 90)


@pytest.mark.parametrize('name', ['empty', 'gone'])
def test_a_folder_without_a_training_is_refused(name, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=rf'{name} must be the work directory of a training that has begun'):
        read_run(tmp_path / name)


LOG = """2026/01/01 10:00:00 - mmengine - INFO - begin
2026/01/01 10:00:01 - mmengine - WARNING - 5 of 9 tensors were loaded.
2026/01/01 10:00:01 - mmengine - WARNING -   not loaded  (1,)
2026/01/01 10:00:02 - mmengine - WARNING - "FileClient" will be deprecated in future.
2026/01/01 10:00:03 - mmengine - WARNING - Bad sample: a.jpg: cut off
2026/01/01 10:00:04 - mmengine - WARNING - Epoch 1: 1 bad samples of 9; drawn 3 times, another sample took the place.
2026/01/01 10:00:05 - mmengine - WARNING - loss is nan
2026/01/01 10:00:06 - mmengine - WARNING - loss is nan
2026/01/01 10:00:07 - mmengine - ERROR - Traceback:
  File "x.py"
ValueError: wrong
2026/01/01 10:01:30 - mmengine - INFO - the monitored metric did not improve in the last 3 records. best score: 0.5.
of a table
"""


def test_warnings_bad_samples_and_the_duration_come_from_the_logs(tmp_path):
    write_session(tmp_path, '20260101_100000', CONFIG, steps(1, 1), LOG)
    resumed = '2026/01/02 10:00:00 - mmengine - WARNING - Bad sample: a.jpg: cut off\n'
    write_session(tmp_path, '20260102_100000', CONFIG, steps(2, 2), resumed)
    log = read_run(tmp_path).log
    assert log.seconds == 90 and log.stopped == ''
    assert log.bad_samples == ['a.jpg: cut off']
    assert log.warnings == {
        '5 of 9 tensors were loaded.\n  not loaded  (1,)': 1,
        'loss is nan': 2,
        'Traceback:\n  File "x.py"\nValueError: wrong': 1,
    }


def test_an_early_stop_is_known(tmp_path):
    write_session(tmp_path, '20260101_100000', CONFIG, steps(1, 1), LOG)
    assert read_run(tmp_path).log.stopped.startswith('the monitored metric did not improve in the last 3 records')


def test_settings_are_those_of_the_config_with_the_reasons_of_rtmdet_train(tmp_path):
    content = dict(
        train_cfg=dict(max_epochs=20),
        train_dataloader=dict(batch_size=8),
        default_hooks=dict(ema=dict(momentum=0.01, gamma=100)),
        param_scheduler=[dict(type='LinearLR', by_epoch=False, end=50)],
        load_from=None,
    )
    write_session(tmp_path, '20260101_000000', Config(content), [])
    choices = dict(epochs=(10, 'few images'), batch=(8, 'usual'), ema=((0.01, 100), 'short'))
    save_prepared(tmp_path, ['Data: pets'], choices)
    assert (tmp_path / PREPARED).is_file()
    run = read_run(tmp_path)
    rows = {row.name: row[1:] for row in settings_of(run)}
    assert run.facts == ['Data: pets']
    assert rows == {
        'Epochs': ('20', 'set by you; rtmdet train chose 10'),
        'Images per step and process': ('8', 'usual'),
        'Averaged weights (momentum, gamma)': ('0.01, 100', 'short'),
        'Warm-up (steps)': ('50', ''),
        'Weights to start from': ('none', ''),
    }
    write_session(tmp_path, '20260102_000000', Config(dict(resume=True)), steps(1, 1))
    assert [row.name for row in settings_of(read_run(tmp_path))] == []


UNUSUAL = {
    'none': [],
    'not finite': [
        dict(loss=value, lr=0.1, time=0.5, data_time=0, epoch=1, iter=i, step=i)
        for i, value in enumerate((float('nan'), float('inf'), 1.5), 1)
    ],
    'by step': [dict(loss=2, lr=0.1, step=100)],
    'metrics of another kind': [{'pascal_voc/mAP': 0.5, 'step': 1}],
}


@pytest.mark.parametrize('kind', UNUSUAL)
def test_unusual_records_are_drawn_as_far_as_possible(kind, tmp_path):
    write_session(tmp_path, '20260101_000000', CONFIG, UNUSUAL[kind])
    names = {'not finite': ['losses', 'lr', 'times'], 'by step': ['losses', 'lr']}.get(kind, [])
    assert [plot.name for plot in training_plots(read_run(tmp_path))] == names
