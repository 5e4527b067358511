"""Read the files that a training has written to its work directory, also while it runs or after it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from rtmdet_runtime.atomic_files import write_atomically

from ..checkpoints.load_model import load_config
from ..checkpoints.work_dir import config_of_work_dir
from ..config.pipelines import preprocessing
from .log_file import Log, read_logs

PREPARED = Path('input', 'prepared.json')
"""File in the work directory in which `rtmdet train` keeps what it read and chose."""
CONFIG, SCALARS = Path('vis_data', 'config.py'), Path('vis_data', 'scalars.json')


@dataclass(frozen=True)
class Run:
    """A training, as far as it got."""

    work_dir: Path
    config: Config
    steps: list[dict]
    """Logged training steps: losses, learning rate and times; without those that a resumed run did again."""
    validations: list[dict]
    """Metrics of each validation; `step` is the number of finished epochs."""
    log: Log
    facts: list[str]
    """Sentences of `rtmdet train` about the data; empty for other runs."""
    choices: dict[str, tuple[Any, str]]
    """Value and reason of each number that `rtmdet train` chose, by its name; empty for other runs."""

    @property
    def max_epochs(self) -> int | None:
        """Planned number of epochs; None if the run counts steps."""
        return self.config.get('train_cfg', {}).get('max_epochs')

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width of the network's input in pixels; None if the test pipeline is of another kind."""
        try:
            return preprocessing(self.config)['input_size']
        except ValueError:
            return None

    @property
    def stage2(self) -> int | None:
        """Number of epochs before stage 2; None without a stage 2."""
        length = self.config.get('default_hooks', {}).get('pipeline_switch', {}).get('num_last_epochs', 0)
        return self.max_epochs - length if self.max_epochs and 0 < length < self.max_epochs else None

    @cached_property
    def epochs(self) -> list[float]:
        """Number of epochs, with a fraction, at which each of `steps` was logged; the step if there are no epochs."""
        if not all('epoch' in record for record in self.steps):
            return [record['step'] for record in self.steps]
        length = max((record['iter'] / record['epoch'] for record in self.steps), default=1)
        return [record['iter'] / length for record in self.steps]

    @property
    def finished_epochs(self) -> int:
        """Number of complete epochs: those before the last logged step, or up to the last validation."""
        return max([0, *(r.get('epoch', 1) - 1 for r in self.steps[-1:]), *(r['step'] for r in self.validations[-1:])])

    def best(self, metric: str) -> dict | None:
        """Return the validation with the highest value of a metric; None if there is none."""
        return max((r for r in self.validations if metric in r), key=lambda r: r[metric], default=None)


def read_run(work_dir: Path) -> Run:
    """Read a work directory of `rtmdet train` or `mim train`.

    Raises:
        FileNotFoundError: if no training has begun there, or its config is missing.
        ValueError: if its config can't be read.
    """
    sessions = sorted({file.parent for file in work_dir.glob('*/*.log') if file.stem.startswith(file.parent.name)})
    trained = [folder for folder in sessions if (folder / SCALARS).is_file()]  # the others are tests, or just began
    if not sessions:
        raise FileNotFoundError(
            f'{work_dir} must be the work directory of a training that has begun, with TIMESTAMP/TIMESTAMP.log of '
            '`rtmdet train` or `mim train`, got none'
        )
    last = (trained or sessions)[-1] / CONFIG
    steps, validations = _joined([_read_lines(folder / SCALARS) for folder in trained])
    prepared = json.loads(file.read_text()) if (file := work_dir / PREPARED).is_file() else {}
    return Run(
        work_dir=work_dir,
        config=load_config(last if last.is_file() else config_of_work_dir(work_dir)),
        steps=steps,
        validations=validations,
        log=read_logs(min(folder.glob(f'{folder.name}*.log')) for folder in trained or sessions[-1:]),
        facts=prepared.get('facts', []),
        choices=prepared.get('choices', {}),
    )


def save_prepared(work_dir: Path, facts: Sequence[str], choices: Mapping[str, tuple[Any, str]]) -> None:
    """Keep what `rtmdet train` read and chose for the report of the run.

    Args:
        work_dir: the work directory.
        facts: sentences about the data, with what is skipped.
        choices: value and reason of each number, by its name.
    """
    content = dict(facts=list(facts), choices=choices)
    write_atomically(work_dir / PREPARED, json.dumps(content, indent=1).encode())


def _read_lines(file: Path) -> list[dict]:
    """Return the records of a file of mmengine, without a last line that isn't written completely yet."""
    records = []
    with open(file, errors='replace') as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict) and 'step' in record:
                records.append(record)
    return records


def _joined(sessions: Sequence[list[dict]]) -> tuple[list[dict], list[dict]]:
    """Return the training steps and the validations of all sessions.

    A session that resumes an earlier one repeats the steps after the checkpoint: its own take their place.
    """
    steps: list[dict] = []
    validations: list[dict] = []
    for records in sessions:
        new_steps = [record for record in records if 'loss' in record]
        new_validations = [record for record in records if 'loss' not in record]
        for old, new in ((steps, new_steps), (validations, new_validations)):
            if new:
                old[:] = [record for record in old if record['step'] < new[0]['step']] + new
    return steps, validations
