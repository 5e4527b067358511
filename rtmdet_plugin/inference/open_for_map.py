"""Open an exported model or a checkpoint with the thresholds that AP is measured with."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config, ConfigDict

from rtmdet_runtime import RTMDetector
from rtmdet_runtime.choices import CHECKPOINTS

from ..checkpoints.load_model import read_config
from .evaluation import use_thresholds
from .predictor import RTMDetPredictor

TEST_CFG = ConfigDict(nms_pre=30000, score_thr=0.001, nms=dict(type='nms', iou_threshold=0.65), max_per_img=300)
"""Thresholds to measure AP with, as in `configs/_base_/model.py`; for exported models without a config."""
TEST_CFG_WITH_MASKS = ConfigDict(nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)
"""The same for models with masks, as in `configs/_base_/ins_model.py`."""


def open_for_map(
    model: str | Path,
    config: str | Path | Config | None = None,
    *,
    backend: str | None = None,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    precision: str = 'float32',
    device: str = 'cpu',
) -> RTMDetector:
    """Open a model with the thresholds of a config's `model.test_cfg`, or else with `TEST_CFG` or that with masks.

    Args:
        model: an exported model, or a checkpoint (.pth, .safetensors).
        config: config of the checkpoint's model; None only for an exported model.
        backend: backend of an exported model; see `RTMDetector`.
        size: (height, width) of the network's input in pixels; None for the model's own.
        threads: number of CPU threads; None for the backend's default.
        precision: see `RTMDetector` and `RTMDetPredictor`. The default gives the same AP on every CPU.
        device: device of a checkpoint: 'cpu', 'cuda' or 'cuda:1' and the like.

    Returns:
        The detector. If NMS is part of an exported model's graph, its thresholds are those of the graph.

    Raises:
        FileNotFoundError, ImportError: if a file or a package is missing.
        ValueError: see `RTMDetector`, `RTMDetPredictor` and `use_thresholds`; also if a checkpoint has no config.
    """
    if Path(model).suffix not in CHECKPOINTS:
        detector = RTMDetector(model, backend=backend, size=size, threads=threads, precision=precision)
        own = TEST_CFG_WITH_MASKS if detector.info.mask_stride else TEST_CFG
        return use_thresholds(detector, own if config is None else read_config(config).model.get('test_cfg'))
    if config is None:
        raise ValueError(f'config must be that of the model in {model}, got none; add --config CONFIG')
    precision = 'float32' if precision == 'auto' else precision
    return RTMDetPredictor(config, model, device=device, size=size, threads=threads, precision=precision, for_map=True)
