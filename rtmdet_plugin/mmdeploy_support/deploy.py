"""Do what mmdeploy's tools/deploy.py does: convert, describe for the SDK, run the result, compare it with PyTorch."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from mmengine.config import Config
from mmengine.structures import InstanceData

from rtmdet_runtime.atomic_files import unfinished, unfinished_folder

from .comparison import Comparison, compare

if TYPE_CHECKING:
    from .job import Job

TOLERANCES = dict(FP32=(1.0, 0.01), FP16=(5.0, 0.05), INT8=(20.0, 0.2))
"""Differences from PyTorch in pixels and in score that are accepted. FP16's and INT8's are untested on a GPU."""
MASK_IOU = 0.9
"""Smallest IoU of the masks that is accepted; mmdeploy scales them to the image without interpolation."""


@dataclass(frozen=True)
class Deployment:
    """The files that `deploy` has written, and their comparison with PyTorch."""

    folder: Path
    files: tuple[Path, ...]
    comparison: Comparison

    def summary(self) -> str:
        """Return one line for the user."""
        return f'{self.folder}: {", ".join(file.name for file in self.files)}; against PyTorch: {self.comparison}'


def deploy(
    config: str | Path | Config,
    checkpoint: str | Path,
    deploy_cfg: str | Path | Config,
    image: str | Path,
    work_dir: str | Path,
    device: str = 'cpu',
) -> Deployment:
    """Convert a checkpoint for a backend, run the result on an image and compare it with PyTorch.

    The folder gets the exported graph, the backend's files and, if mmdeploy's SDK can run them, `deploy.json`,
    `pipeline.json` and `detail.json`. It appears complete or not at all.

    Args:
        config: the model's config.
        checkpoint: a checkpoint that holds all of the model.
        deploy_cfg: one of `configs/deploy`, or one derived from them.
        image: an image with objects that the model detects.
        work_dir: the folder to write; new or empty.
        device: device of the backend; TensorRT requires 'cuda:0'.

    Returns:
        The written files and the comparison.

    Raises:
        ValueError: if the deploy config isn't for RTMDet, a size isn't divisible by 32, the checkpoint doesn't fit,
            or the image can't be read.
        FileNotFoundError: if the checkpoint or a config doesn't exist.
        FileExistsError: if the folder isn't empty.
        ModuleNotFoundError: if mmdeploy or the backend isn't installed.
        RuntimeError: if PyTorch detects nothing on the image that could be compared, if the result differs from
            PyTorch's by more than `TOLERANCES`, if the IoU of the masks is below `MASK_IOU`, or if TensorRT is too new
            for mmdeploy.
    """
    with unfinished_folder(Path(work_dir)) as folder:
        job = prepare(config, checkpoint, deploy_cfg, image, device)
        job.require_backend()
        expected = job.predict_torch(image)
        sure = sure_score(job, expected)
        if not (expected.scores >= sure).any():
            raise RuntimeError(
                f'{image} must have an object that PyTorch detects with a score of {sure:.3g} or more, got none; '
                'choose another image for the comparison'
            )
        files = job.convert(job.export(image, folder))
        if job.backend != 'ncnn':  # our graph for ncnn has no NMS nodes, which the SDK expects
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
    """Export only the graph that the backend converts; this needs no backend.

    This is the usual way for TensorRT: an engine is built on the machine that runs it.

    Args:
        config: see `deploy`.
        checkpoint: see `deploy`.
        deploy_cfg: see `deploy`.
        image: see `deploy`.
        path: the file to write (.onnx).

    Raises:
        As `deploy`.
    """
    with unfinished(Path(path)) as (file,):
        prepare(config, checkpoint, deploy_cfg, image, 'cpu').export(image, file.parent).rename(file)


def require_mmdeploy() -> None:
    """Raise a `ModuleNotFoundError` that says how to install mmdeploy, if it isn't installed."""
    if importlib.util.find_spec('mmdeploy') is None:
        raise ModuleNotFoundError(
            'mmdeploy is not installed: pip install ".[mmdeploy]" and then pip install --no-deps -r '
            'mmdeploy-requirements.txt in a checkout of rtmdet_plugin'
        )


def prepare(config, checkpoint, deploy_cfg, image, device: str) -> 'Job':
    """Check the arguments of `deploy` and load the model, before any work is done."""
    require_mmdeploy()
    from .job import Job

    if not Path(image).is_file() or cv2.imread(str(image)) is None:
        raise ValueError(f'image must be a file that OpenCV can read, got {image}')
    return Job.of(config, checkpoint, deploy_cfg, device)


def tolerance(job: 'Job') -> tuple[float, float]:
    """Return the differences from PyTorch that are accepted: in pixels and in score."""
    from mmdeploy.utils import get_precision

    max_box, max_score = TOLERANCES[get_precision(job.graph_cfg)]
    # If PyTorch's box ends at the border, the SDK's ends on the last pixel.
    return max_box + (job.backend == 'sdk'), max_score


def sure_score(job: 'Job', expected: InstanceData) -> float:
    """Return the score from which every box of PyTorch must have a partner: the cut-off score plus the tolerance."""
    settings = job.deploy_cfg.codebase_config.post_processing
    floor = settings.score_threshold
    if len(expected) >= settings.keep_top_k:  # the list is full: the other side may have dropped its lowest box
        floor = float(expected.scores.min())
    return floor + tolerance(job)[1]


def check(job: 'Job', expected: InstanceData, actual: InstanceData) -> Comparison:
    """Compare a backend's boxes and masks with PyTorch's.

    Raises:
        RuntimeError: if they differ by more than the tolerance.
    """
    max_box, max_score = tolerance(job)
    comparison = compare(expected, actual, sure_score=sure_score(job, expected))
    if comparison.box > max_box or comparison.score > max_score:
        raise RuntimeError(
            f'{job.backend} must differ from PyTorch by at most {max_box} px and {max_score} in score, got {comparison}'
        )
    if comparison.masks is not None and comparison.masks < MASK_IOU:
        raise RuntimeError(f"{job.backend}: the masks must have an IoU of {MASK_IOU} with PyTorch's, got {comparison}")
    return comparison
