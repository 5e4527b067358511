"""What mmdeploy's tools/deploy.py does: convert, describe for the SDK, run the result and compare it with PyTorch."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from mmengine.config import Config
from mmengine.structures import InstanceData

from ..export.files import unfinished, unfinished_folder
from .comparison import Comparison, compare

if TYPE_CHECKING:
    from .job import Job

TOLERANCES = dict(FP32=(1.0, 0.01), FP16=(5.0, 0.05), INT8=(20.0, 0.2))
"""Pixels and score by which a backend may differ from PyTorch. Those of FP16 and INT8 have not met a GPU yet."""


@dataclass(frozen=True)
class Deployment:
    """What `deploy` has written, and how close to PyTorch it is."""

    folder: Path
    files: tuple[Path, ...]
    comparison: Comparison

    def summary(self) -> str:
        """One line for the user."""
        return f'{self.folder}: {", ".join(file.name for file in self.files)}; against PyTorch: {self.comparison}'


def deploy(
    config: str | Path | Config,
    checkpoint: str | Path,
    deploy_cfg: str | Path | Config,
    image: str | Path,
    work_dir: str | Path,
    device: str = 'cpu',
) -> Deployment:
    """Convert a checkpoint for a backend, run the result on a picture and compare it with PyTorch.

    The folder gets the exported graph, the backend's files and, where mmdeploy's SDK can run them, `deploy.json`,
    `pipeline.json` and `detail.json`. It appears when everything has gone well, or not at all.

    Args:
        config: the model's config.
        checkpoint: a checkpoint that holds all of the model.
        deploy_cfg: one of `configs/deploy`, or one made from them.
        image: a picture with objects that the model finds.
        work_dir: the folder to write; new or empty.
        device: where the backend runs; TensorRT wants 'cuda:0'.

    Raises:
        ValueError: for a deploy config that isn't for RTMDet, a size that isn't divisible by 32, a checkpoint that
            doesn't fit, a picture that can't be read.
        FileNotFoundError: where the checkpoint or a config isn't there.
        FileExistsError: where the folder holds something.
        ModuleNotFoundError: where mmdeploy or the backend isn't installed.
        RuntimeError: where PyTorch finds nothing on the picture that could be compared, the result differs from
            PyTorch's beyond `TOLERANCES`, or TensorRT is too new for mmdeploy.
    """
    with unfinished_folder(Path(work_dir)) as folder:
        job = prepare(config, checkpoint, deploy_cfg, image, device)
        job.require_backend()
        expected = job.predict_torch(image)
        sure = sure_score(job, expected)
        if not (expected.scores >= sure).any():
            raise RuntimeError(
                f'{image}: PyTorch finds no box on it with a score of {sure:.3g} or more, which '
                'leaves nothing to compare; accepted: a picture with objects'
            )
        files = job.convert(job.export(image, folder))
        if job.backend != 'ncnn':  # our graph for ncnn ends before the NMS, which the SDK looks for in it
            job.describe(folder)
        comparison = check(job, expected, job.predict_backend(files, image))
        names = [file.relative_to(folder) for file in files]
    return Deployment(Path(work_dir), tuple(Path(work_dir) / name for name in names), comparison)


def export_graph(
    config: str | Path | Config,
    checkpoint: str | Path,
    deploy_cfg: str | Path | Config,
    image: str | Path,
    path: str | Path,
) -> None:
    """The first half of `deploy` alone: the graph that the backend converts, which needs no backend.

    For TensorRT that is the usual case: an engine is built on the machine that runs it.

    Args:
        config, checkpoint, deploy_cfg, image: see `deploy`.
        path: the file to write (.onnx).

    Raises:
        As `deploy`.
    """
    with unfinished(Path(path)) as (file,):
        prepare(config, checkpoint, deploy_cfg, image, 'cpu').export(image, file.parent).rename(file)


def require_mmdeploy() -> None:
    """Raise a `ModuleNotFoundError` that says how to install mmdeploy where it isn't."""
    if importlib.util.find_spec('mmdeploy') is None:
        raise ModuleNotFoundError(
            'mmdeploy is not installed: pip install ".[mmdeploy]" and then pip install --no-deps -r '
            'mmdeploy-requirements.txt in a checkout of rtmdet_plugin'
        )


def prepare(config, checkpoint, deploy_cfg, image, device: str) -> 'Job':
    """Everything that can be refused before work begins; see `deploy`."""
    require_mmdeploy()
    from .job import Job

    if not Path(image).is_file() or cv2.imread(str(image)) is None:
        raise ValueError(f'{image} is not a picture that OpenCV can read')
    return Job.of(config, checkpoint, deploy_cfg, device)


def tolerance(job: 'Job') -> tuple[float, float]:
    """Pixels and score by which the backend may differ from PyTorch."""
    from mmdeploy.utils import get_precision

    max_box, max_score = TOLERANCES[get_precision(job.graph_cfg)]
    # A box that PyTorch lets end at the border ends on the last pixel in the SDK.
    return max_box + (job.backend == 'sdk'), max_score


def sure_score(job: 'Job', expected: InstanceData) -> float:
    """The score from which on each of PyTorch's boxes must have a partner: the tolerance above what cuts them off."""
    settings = job.deploy_cfg.codebase_config.post_processing
    floor = settings.score_threshold
    if len(expected) >= settings.keep_top_k:  # the worst of a full list may be out on the other side
        floor = float(expected.scores.min())
    return floor + tolerance(job)[1]


def check(job: 'Job', expected: InstanceData, actual: InstanceData) -> Comparison:
    """Compare a backend's boxes with PyTorch's; `RuntimeError` above the tolerance."""
    max_box, max_score = tolerance(job)
    comparison = compare(expected, actual, sure_score=sure_score(job, expected))
    if comparison.box > max_box or comparison.score > max_score:
        raise RuntimeError(
            f'{job.backend} differs from PyTorch: {comparison}; accepted are {max_box} px and {max_score} in score'
        )
    return comparison
