"""Services that show the metrics of a run, through the visualization backends of mmengine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import RefusedError

SERVICES = ('tensorboard', 'mlflow', 'wandb')
"""Names of the services, which are also those of their packages."""


def check_services(names: Sequence[str]) -> None:
    """Check that services are known and their packages installed.

    Raises:
        RefusedError: if one isn't.
    """
    unknown = [name for name in names if name not in SERVICES]
    if unknown:
        raise RefusedError(f'log must be among {", ".join(SERVICES)}, got {", ".join(unknown)}')
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        packages = ' '.join(missing)
        raise RefusedError(f'log needs {" and ".join(missing)}, not installed here: pip install {packages}')


def service_text(name: str, work_dir: Path) -> str:
    """Return the backend of a service as Python, for a config.

    MLflow's runs go to the server in MLFLOW_TRACKING_URI, or else to a database next to the work directory: mmengine's
    default, a folder of files, is refused by MLflow since version 3. W&B reads its own environment variables, such as
    WANDB_MODE=offline.

    Args:
        name: one of `SERVICES`.
        work_dir: work directory of the run, whose name is that of the run.
    """
    project = work_dir.name.rpartition('_')[0]
    if name == 'tensorboard':
        return "dict(type='TensorboardVisBackend')"
    if name == 'wandb':
        return f"dict(type='WandbVisBackend', init_kwargs=dict(project={project!r}, name={work_dir.name!r}))"
    options = dict(type='RTMMLflowVisBackend', exp_name=project, run_name=work_dir.name)
    if not os.environ.get('MLFLOW_TRACKING_URI'):
        options['type'] = 'MLflowVisBackend'
        options['tracking_uri'] = f'sqlite:///{work_dir.parent}/mlflow.db'
        options['artifact_location'] = f'{work_dir.parent}/mlflow_artifacts'
    return f'dict({", ".join(f"{key}={value!r}" for key, value in options.items())})'
