"""Write the files that a training leaves in its work directory, without training, for the tests of its report."""

import json
from pathlib import Path

from mmengine.config import Config

STEPS, LENGTH = 2, 4
"""Steps between two records, and steps of an epoch."""
PLOTS = {'losses', 'ap', 'lr', 'times', 'precision-recall', 'f1', 'object-sizes', 'places', 'image-sizes'}
"""Names of the plots in the report of a finished run."""


def steps(first: int, last: int) -> list[dict]:
    """Return the records of the steps of some epochs."""
    return [
        dict(
            lr=0.001, data_time=0.01, time=0.5, loss=3 / i, loss_cls=2 / i, loss_bbox=1 / i,
            epoch=(i - 1) // LENGTH + 1, iter=i, step=i,
        )
        for i in range((first - 1) * LENGTH + STEPS, last * LENGTH + 1, STEPS)
    ]  # fmt: skip


def validation(epoch: int, ap: float) -> dict:
    """Return the record of a validation."""
    return {'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': ap + 0.1, 'data_time': 0.01, 'time': 0.2, 'step': epoch}


def write_session(work_dir: Path, name: str, config: Config, records: list[dict], lines: str = '') -> Path:
    """Write what mmengine writes for one start of a training; return its folder."""
    folder = work_dir / name
    (folder / 'vis_data').mkdir(parents=True)
    config.dump(folder / 'vis_data' / 'config.py')
    (folder / 'vis_data' / 'scalars.json').write_text(''.join(f'{json.dumps(record)}\n' for record in records))
    (folder / f'{name}.log').write_text(lines)
    return folder
