"""A kill or a full disk at any moment of a save loses only the unfinished epoch."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import faults
import pytest
import torch
from mmengine.config import Config

from rtmdet_plugin.checkpoints.latest import candidates, damage, latest_usable, pointed_to
from rtmdet_plugin.errors import RefusedError


def hooks(**kwargs) -> dict:
    return dict(checkpoint=dict(dict(type='RTMCheckpointHook', interval=1), **kwargs))


BEST = dict(max_keep_ckpts=1, save_best='AP', rule='greater')


def names(work_dir: Path) -> set[str]:
    return {path.name for path in work_dir.glob('*.pth')}


def epoch_of(path: str | Path) -> int:
    return torch.load(path, weights_only=True)['meta']['epoch']


@pytest.fixture
def work_dir(tmp_path) -> Path:
    return tmp_path / 'work'


def test_keeps_as_many_as_asked_for(make_runner, work_dir):
    make_runner(max_epochs=4, hooks=hooks(max_keep_ckpts=2)).train()
    assert names(work_dir) == {'epoch_3.pth', 'epoch_4.pth'}
    assert pointed_to(work_dir) == str(work_dir / 'epoch_4.pth')
    assert not list(work_dir.glob('.*'))


def test_all_are_kept_by_default(make_runner, work_dir):
    make_runner(max_epochs=3, hooks=hooks()).train()
    assert names(work_dir) == {'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'}


def test_only_the_best_one_is_kept(make_runner, coco, work_dir):
    make_runner(max_epochs=3, hooks=hooks(**BEST), val_dataset=coco(test_mode=True)).train()
    assert names(work_dir) == {'best_AP_epoch_3.pth', 'epoch_3.pth'}
    saved = torch.load(work_dir / 'epoch_3.pth', weights_only=True)['message_hub']['runtime_info']
    assert saved['best_ckpt'] == str(work_dir / 'best_AP_epoch_3.pth')
    assert saved['best_score'] == pytest.approx(0.03)


def test_older_ones_go_after_the_newer_one_is_there(make_runner, coco, work_dir, monkeypatch):
    """The hook of mmengine removes the only checkpoint before it writes the next one."""
    seen = []
    original = os.remove

    def remove(path, *args, **kwargs):
        if str(path).endswith('.pth'):
            seen.append((Path(path).name, {name for name in names(work_dir) if not damage(work_dir / name)}))
        original(path, *args, **kwargs)

    monkeypatch.setattr(os, 'remove', remove)
    make_runner(max_epochs=2, hooks=hooks(**BEST), val_dataset=coco(test_mode=True)).train()
    both = {'epoch_1.pth', 'best_AP_epoch_1.pth', 'epoch_2.pth'}
    assert seen == [('epoch_1.pth', both), ('best_AP_epoch_1.pth', both - {'epoch_1.pth'} | {'best_AP_epoch_2.pth'})]


def train_with_faults(make_runner, coco, fail: Callable, at: int) -> Callable:
    """Resume after epoch 1 and run into the fault in epoch 2; count the steps in `steps` if it is given."""

    def work():
        runner = make_runner(max_epochs=2, hooks=hooks(**BEST), val_dataset=coco(test_mode=True), resume=True)
        runner._val_evaluator.metrics[0].asked = 1  # better than the best so far
        with pytest.MonkeyPatch.context() as patch:
            count = faults.Faults(patch, fail, at)
            runner.train()
            Path(runner.work_dir, 'steps').write_text(str(count.done))

    return work


@pytest.mark.parametrize('fail', [faults.disk_full, faults.kill], ids=lambda function: function.__name__)
@pytest.mark.parametrize('every', [pytest.param(1, marks=pytest.mark.slow), 11])
def test_a_fault_at_every_step_leaves_a_run_that_goes_on(make_runner, coco, work_dir, fail, every):
    """Epoch 2 saves itself, the best one, itself again, and removes two files; each of these steps fails once."""
    val = coco(test_mode=True)
    make_runner(max_epochs=1, hooks=hooks(**BEST), val_dataset=val).train()
    start = {path: path.read_bytes() for path in work_dir.iterdir() if path.is_file()}

    def restore():
        for path in work_dir.iterdir():
            if path.is_file():
                path.unlink()
        for path, content in start.items():
            path.write_bytes(content)

    assert faults.in_child(train_with_faults(make_runner, coco, fail, at=-1)) == 0
    steps = int((work_dir / 'steps').read_text())
    assert steps > 30, 'five files are written'
    went_on_from = []
    for at in range(0, steps, every):
        restore()
        code = faults.in_child(train_with_faults(make_runner, coco, fail, at))
        assert code == faults.KILLED if fail is faults.kill else code in (0, 1), (
            'a folder that can not be synced is none'
        )
        assert damage(Path(pointed_to(work_dir))) is None, 'last_checkpoint names an undamaged file'
        assert all(damage(path) is None for path in candidates(work_dir)), 'and so are the others'
        assert any(damage(path) is None for path in work_dir.glob('best_*.pth'))
        went_on_from.append(epoch_of(latest_usable(work_dir)))
    assert set(went_on_from) == {1, 2}
    if fail is faults.kill:
        assert went_on_from == sorted(went_on_from), 'from the rename on it is epoch 2'
    # The last run continues, and the files that the killed run left are removed.
    make_runner(max_epochs=3, hooks=hooks(**BEST), val_dataset=val, resume=True).train()
    assert names(work_dir) >= {'epoch_3.pth'} and 'epoch_1.pth' not in names(work_dir)
    assert not list(work_dir.glob('.*'))


def test_a_full_disk_is_an_error_that_names_the_last_good_one(make_runner, work_dir, monkeypatch):
    make_runner(max_epochs=1, hooks=hooks()).train()
    runner = make_runner(max_epochs=2, hooks=hooks(), resume=True)
    faults.Faults(monkeypatch, faults.disk_full, 2)
    expected = rf'{re.escape(str(work_dir))}/epoch_2.pth cannot be written \(No space.*good one is .*/epoch_1.pth'
    with pytest.raises(OSError, match=expected):
        runner.train()


def test_resume_steps_back_past_a_damaged_file(make_runner, work_dir):
    make_runner(max_epochs=2, hooks=hooks()).train()
    last = work_dir / 'epoch_2.pth'
    last.write_bytes(last.read_bytes()[:-1000])
    runner = make_runner(max_epochs=3, hooks=hooks(), resume=True)
    runner.train()
    assert f'{last} (' in runner.log() and 'Skipped the damaged checkpoint' in runner.log()
    assert 'resumed epoch: 1' in runner.log()
    assert epoch_of(work_dir / 'epoch_3.pth') == 3 and damage(last) is None, 'epoch 2 was trained again'


def test_resume_with_nothing_usable_does_not_start_from_scratch(make_runner, work_dir):
    make_runner(max_epochs=1, hooks=hooks()).train()
    (work_dir / 'epoch_1.pth').write_bytes(b'')
    runner = make_runner(max_epochs=2, hooks=hooks(), resume=True)
    with pytest.raises(RefusedError, match='nothing to resume from in .*epoch_1.pth'):
        runner.train()


def test_resume_before_the_first_checkpoint_starts_from_scratch(make_runner, work_dir):
    """A job that is always started with --resume, even the first time."""
    runner = make_runner(max_epochs=1, hooks=hooks(), resume=True)
    runner.train()
    assert f'No checkpoint to resume from in {work_dir}' in runner.log()
    assert names(work_dir) == {'epoch_1.pth'}


def test_a_second_run_does_not_replace_the_first(make_runner, work_dir):
    make_runner(max_epochs=1, hooks=hooks()).train()
    before = (work_dir / 'epoch_1.pth').read_bytes()
    runner = make_runner(max_epochs=1, hooks=hooks())
    with pytest.raises(RefusedError, match=f'{work_dir} holds .*: epoch_1.pth. .*--resume; .*--work-dir; .*overwrite'):
        runner.train()
    assert runner.record.seen == [], 'no step was made'
    assert names(work_dir) == {'epoch_1.pth'} and (work_dir / 'epoch_1.pth').read_bytes() == before


def test_a_best_checkpoint_is_not_replaced_by_a_resume_that_finds_nothing(make_runner, work_dir):
    work_dir.mkdir()
    (work_dir / 'best_AP_epoch_1.pth').touch()
    with pytest.raises(RefusedError, match='best_AP_epoch_1.pth. Choose: to keep them, another --work-dir'):
        make_runner(max_epochs=1, hooks=hooks(), resume=True).train()


def test_a_refused_run_leaves_the_config_of_the_first(make_runner, work_dir):
    make_runner(max_epochs=1, hooks=hooks(), cfg=Config(dict(batch=1), filename='cats.py', cfg_text='-')).train()
    before = (work_dir / 'cats.py').read_bytes()
    runner = make_runner(max_epochs=1, hooks=hooks(), cfg=Config(dict(batch=2), filename='cats.py', cfg_text='-'))
    assert (work_dir / 'cats.py').read_bytes() != before, 'mmengine writes it when the runner is built'
    with pytest.raises(RefusedError):
        runner.train()
    assert (work_dir / 'cats.py').read_bytes() == before


def test_a_resume_from_another_folder_does_not_replace_what_is_here(make_runner, work_dir, tmp_path):
    make_runner(max_epochs=1, hooks=hooks()).train()
    other = tmp_path / 'other.pth'
    other.write_bytes((work_dir / 'epoch_1.pth').read_bytes())
    with pytest.raises(RefusedError, match='epoch_1.pth'):
        make_runner(max_epochs=2, hooks=hooks(), resume=True, load_from=str(other)).train()


def test_checkpoints_under_names_of_the_users_are_seen(make_runner, work_dir):
    settings = dict(filename_tmpl='cats_{}.pth')
    make_runner(max_epochs=1, hooks=hooks(**settings)).train()
    assert names(work_dir) == {'cats_1.pth'}
    with pytest.raises(RefusedError, match='cats_1.pth'):
        make_runner(max_epochs=1, hooks=hooks(**settings)).train()


def test_an_earlier_run_is_moved_to_a_subfolder_if_asked_for(make_runner, work_dir):
    make_runner(max_epochs=1, hooks=hooks()).train()
    before = (work_dir / 'epoch_1.pth').read_bytes()
    runner = make_runner(max_epochs=2, hooks=hooks(allow_overwrite=True))
    runner.train()
    earlier = work_dir / f'earlier_{runner.timestamp}'
    assert f'moved to the subfolder {earlier.name}: epoch_1.pth' in runner.log()
    assert names(work_dir) == {'epoch_1.pth', 'epoch_2.pth'}
    assert (earlier / 'epoch_1.pth').read_bytes() == before and (earlier / 'last_checkpoint').is_file()
