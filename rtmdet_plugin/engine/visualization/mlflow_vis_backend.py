"""Send metrics to the MLflow server that the environment names."""

from __future__ import annotations

import os
from typing import Any

from mmdet.registry import VISBACKENDS
from mmengine.visualization import MLflowVisBackend

VARIABLE = 'MLFLOW_TRACKING_URI'


@VISBACKENDS.register_module()
class RTMMLflowVisBackend(MLflowVisBackend):
    """mmengine's backend for the server in the environment variable MLFLOW_TRACKING_URI, which mmengine ignores.

    The address isn't an argument, because it may contain a password, and mmengine writes all arguments to files of the
    run.

    Args:
        save_dir: folder of the run's files.
        **options: other arguments of mmengine's `MLflowVisBackend`, such as `exp_name`.

    Raises:
        ValueError: if the variable isn't set.
    """

    def __init__(self, save_dir: str, **options: Any) -> None:
        address = os.environ.get(VARIABLE)
        if not address:
            raise ValueError(f'{VARIABLE} must be the address of an MLflow server, got none')
        super().__init__(save_dir, tracking_uri=address, **options)
