"""`RTMDetector`: find objects in images, as boxes, and masks, in the coordinates of the original image."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from .backends import Backend, StreamingBackend, open_backend
from .backends.pytorch import is_checkpoint, open_checkpoint
from .choices import TILE_OVERLAP
from .classes import labels_of
from .detections import Detections
from .image import Image, Placement, letterbox, normalization_table, read_image, write_input
from .info import NMS_FORMS, PREFIX, ModelInfo
from .mask_decoding import decode_masks
from .postprocess import Candidates, check_outputs, class_wise_nms, decode_maps, select_candidates, take
from .sources import Source, is_one_image, read_sources
from .sources.item import Problem
from .stream import Result, find, with_origin
from .tiles import TiledDetector

ImageSource = str | Path | Image


class RTMDetector:
    """Find objects in images: preprocess them, run the network on a backend, and post-process its outputs.

    Args:
        model: one of these:

            - a file of `rtmdet export`: .onnx, .xml (OpenVINO), .param (ncnn) or .engine (TensorRT). Opening an engine
              runs code in it, so open only engines that you trust;
            - a checkpoint, .pth or .safetensors, or the name of published weights, 'rtmdet_nano' (persons),
              'rtmdet_tiny', 's', 'm', 'l' or 'x' (COCO), which are downloaded once. They need rtmdet_plugin;
            - a loaded backend (see `Backend`), without `backend`, `threads`, `precision`, `device` and `config`.
        backend: 'onnxruntime', 'openvino', 'ncnn' or 'tensorrt'; None chooses by the file's ending.
        size: (height, width) of the network's input in pixels, multiples of the coarsest stride; None for the model's
            own. Other sizes need a model that was exported with a dynamic size.
        score_thr: minimum score of a box, exclusive; None for the model's own, as for the next three. If NMS is part of
            the model's graph, it can be raised but not lowered, and the next three can't be changed.
        iou_thr: IoU threshold of the NMS within a class.
        nms_pre: maximum number of candidates per image that take part in NMS.
        max_per_img: maximum number of boxes per image, or per tile with `tile`.
        classes: names of the classes to find; None for all. Others take no part in NMS, unless it is in the graph.
        threads: number of CPU threads of the backend; None for the backend's default.
        precision: precision to compute in. 'auto': the fastest that was seen to keep AP, which is bfloat16 on OpenVINO
            if the CPU has instructions for it (AMX, AVX512-BF16), otherwise float32. 'float32': the same boxes as
            PyTorch on every CPU. 'bfloat16' and 'float16': only OpenVINO, ncnn and PyTorch. Layers in INT8 stay in
            INT8.
        device: device of a checkpoint: 'cpu', 'cuda', or 'cuda:1' and the like; None for CUDA if PyTorch sees it.
        config: config of a checkpoint: a file, the name of a shipped one, or an object. None for the one in the
            checkpoint or next to it, which is read as data and never run.

    Attributes:
        backend: the loaded backend; several detectors may share it. `backend.precision` is the one that it runs in.
        streaming: the same model for long streams, which run several calls at a time.
        info: the model's metadata, with the values given here instead of its own.

    Raises:
        FileNotFoundError, ImportError: see `open_backend` and `open_checkpoint`.
        ValueError: see `open_backend`, `open_checkpoint`, `changed_info` and `labels_of`.
    """

    def __init__(
        self,
        model: str | Path | Backend,
        *,
        backend: str | None = None,
        size: tuple[int, int] | None = None,
        score_thr: float | None = None,
        iou_thr: float | None = None,
        nms_pre: int | None = None,
        max_per_img: int | None = None,
        classes: Sequence[str] | None = None,
        threads: int | None = None,
        precision: str = 'auto',
        device: str | None = None,
        config: Any = None,
    ) -> None:
        if isinstance(model, (str, Path)):
            self.backend = _open(model, backend, threads, precision, device, config)
        elif (backend, threads, precision, device, config) == (None, None, 'auto', None, None):
            self.backend, model = model, type(model).__name__
        else:
            raise ValueError(
                'model must be a file if backend, threads, precision, device or config is given, got '
                f'{type(model).__name__}'
            )
        self.streaming = StreamingBackend(self.backend)
        given = dict(score_thr=score_thr, iou_thr=iou_thr, nms_pre=nms_pre, max_per_img=max_per_img)
        self.name = str(model)
        self.info = changed_info(self.backend, self.name, size, given)
        if isinstance(classes, str):
            raise ValueError(f'classes must be a list of names, got {classes!r}; write [{classes!r}]')
        self._wanted = None if classes is None else np.array(labels_of(classes, self.info.classes), np.int64)

    def __repr__(self) -> str:
        """Return the model, its backend, and the precision and size that it runs in."""
        height, width = self.info.input_size
        parts = self.name, type(self.backend).__name__, self.backend.precision, f'{height}x{width}'
        return f'RTMDetector({", ".join(dict.fromkeys(parts))})'

    @cached_property
    def _table(self) -> np.ndarray:
        return normalization_table(self.info)

    def __call__(
        self,
        source: Source,
        *,
        batch_size: int = 1,
        every: int = 1,
        recursive: bool = False,
        tile: int | None = None,
        overlap: float = TILE_OVERLAP,
        track: bool = False,
    ) -> Detections | Iterator[Detections]:
        """Find objects in any source.

        Args:
            source: a path of an image, video or folder; a pattern such as 'images/*.jpg'; an http(s) address of an
                image or video, or an address such as 'rtsp://...'; the number of a camera; an array (BGR, uint8,
                (H, W, 3) or (B, H, W, 3)), PIL image or tensor (RGB, (3, H, W) or (B, 3, H, W), uint8 or float from 0
                to 1); or an iterable of these.
            batch_size: see `predict`.
            every: use only every N-th frame of videos and cameras.
            recursive: read the subfolders of folders too.
            tile: width and height in pixels of overlapping tiles that are predicted one by one, see `TiledDetector`,
                for images that are larger than the network's input; None for complete images.
            overlap: minimum share of a tile that it has in common with the next one.
            track: follow the objects of videos, see `tracked`: results have `ids`. Ignored for one image, as `every`.

        Returns:
            `Detections` for one image, otherwise an iterator of them. It reads while it is used, so memory doesn't grow
            with the source; `list(...)` collects its results with their images. Images that can't be read, and damaged
            videos, are skipped with a warning.

        Raises:
            FileNotFoundError, ValueError: if one image can't be read; otherwise see `read_sources`. ValueError also if
                `every` or `batch_size` is below 1.
        """
        for name, value in (('batch_size', batch_size), ('every', every)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}')
        items = read_sources([source], every, recursive)
        if not is_one_image(source):
            return self._results(find(self, items, batch_size, tile, overlap, track))
        (item,) = items
        if isinstance(item, Problem):
            raise item.error
        detector = self if tile is None else TiledDetector(self, tile, overlap, batch_size)
        return with_origin(detector.predict(item.image), item)

    def _results(self, stream: Generator[Result | Problem, None, None]) -> Iterator[Detections]:
        with contextlib.closing(stream):
            for result in stream:
                if isinstance(result, Problem):
                    warnings.warn(result.line, stacklevel=2)
                else:
                    yield result[1]

    @overload
    def predict(self, images: ImageSource, batch_size: int = 1) -> Detections: ...

    @overload
    def predict(self, images: Sequence[ImageSource], batch_size: int = 1) -> list[Detections]: ...

    def predict(
        self, images: ImageSource | Sequence[ImageSource], batch_size: int = 1
    ) -> Detections | list[Detections]:
        """Find objects in one image or a list of images.

        Args:
            images: a path or an image (BGR, uint8, (H, W, 3)), or a list of these.
            batch_size: number of images that the network gets at once; ignored if the model has a fixed batch size.

        Returns:
            `Detections` for one image, a list of them for a list. They don't keep images that were read from files.

        Raises:
            FileNotFoundError: if an image file doesn't exist.
            ValueError: if an image can't be read, `batch_size` is below 1, or the network's outputs don't fit its
                metadata or contain NaN.
        """
        if isinstance(images, (str, Path, np.ndarray)):
            return self._predict_batch([images])[0]
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        step = self.backend.batch or batch_size
        batches = (images[start : start + step] for start in range(0, len(images), step))
        return [detections for batch in batches for detections in self._predict_batch(batch)]

    def _predict_batch(self, sources: Sequence[ImageSource]) -> list[Detections]:
        inputs, placements = self.preprocess(sources)
        outputs = self.backend(inputs)
        found = []
        for i, (source, placement) in enumerate(zip(sources, placements, strict=True)):
            origin = dict(image=source) if isinstance(source, np.ndarray) else dict(source=str(source))
            found.append(replace(self.postprocess([output[i] for output in outputs], placement), **origin))
        return found

    def preprocess(self, sources: Sequence[ImageSource]) -> tuple[np.ndarray, list[Placement]]:
        """Return the network's input (B, 3, H, W), float32, and where each image is in it.

        If the model has a fixed batch size and there are fewer images, the rest of the input is 0.
        """
        height, width = self.info.input_size
        inputs = np.zeros((self.backend.batch or len(sources), 3, height, width), np.float32)
        placements = []
        for source, out in zip(sources, inputs, strict=False):
            image = read_image(source)
            canvas, scale = letterbox(image, (height, width), self.info.pad_value, self.info.keep_ratio)
            write_input(canvas, self._table, self.info.to_rgb, out)
            placements.append(Placement(scale, image.shape[:2]))
        return inputs, placements

    def postprocess(self, outputs: Sequence[np.ndarray], placement: Placement) -> Detections:
        """Return the detections of one image, given its outputs without the batch axis and where it is in the input."""
        check_outputs(outputs, self.info)
        boxes, scores, labels, rows = self._boxes(outputs)
        if labels.max(initial=-1) >= len(self.info.classes):
            raise ValueError(
                f'metadata {PREFIX}classes must have at least {labels.max() + 1:.0f} names, because the network '
                f'predicts label {labels.max():.0f}, got {len(self.info.classes)}'
            )
        factors = np.array([1 / placement.scale[0], 1 / placement.scale[1]] * 2, np.float32)
        masks = decode_masks(outputs, rows, self.info, placement) if self.info.mask_stride else None
        return Detections(boxes * factors, scores, labels.astype(np.int64), self.info.classes, masks=masks)

    def _boxes(self, outputs: Sequence[np.ndarray]) -> Candidates:
        """Return boxes, scores, labels, and where their masks come from: priors, or the rows of a graph with NMS."""
        info = self.info
        if info.form == 'nms':
            dets, labels = outputs[:2]
            found = (labels >= 0) & (dets[:, 4] > info.score_thr)
            return self._selected(take((dets[:, :4], dets[:, 4], labels, np.arange(len(labels))), found))
        if info.form == 'trt':
            count, boxes, scores, labels = outputs
            found = (np.arange(len(scores)) < count[0]) & (scores > info.score_thr)
            return self._selected(take((boxes, scores, labels, np.arange(len(labels))), found))
        if info.form == 'raw':
            levels = len(info.strides)
            logits, distances = outputs[:levels], outputs[levels : 2 * levels]
            candidates = decode_maps(logits, distances, info.strides, info.exp_on_reg, info.score_thr)
        else:
            boxes, scores = outputs[:2]
            candidates = select_candidates(boxes, scores, info.score_thr)
        return class_wise_nms(self._selected(candidates), info.iou_thr, info.nms_pre, info.max_per_img)

    def _selected(self, candidates: Candidates) -> Candidates:
        """Return the candidates of the classes to find."""
        if self._wanted is None:
            return candidates
        return take(candidates, np.isin(candidates[2], self._wanted))


def _open(
    model: str | Path, backend: str | None, threads: int | None, precision: str, device: str | None, config: Any
) -> Backend:
    """Open a checkpoint or an exported model; see `RTMDetector`."""
    if is_checkpoint(model):
        if backend is not None:
            raise ValueError(f'backend must be None for {model}, which PyTorch runs, got {backend!r}; export it first')
        return open_checkpoint(model, config, device, threads, precision)
    if config is not None:
        raise ValueError(f'config must be None for {model}, which contains its settings, got {config!r}')
    expected = 'cuda' if Path(model).suffix == '.engine' else 'cpu'
    if device not in (None, expected):
        raise ValueError(f'device must be {expected} for {model}, got {device!r}; a checkpoint runs on others')
    return open_backend(model, backend, threads, precision)


def changed_info(
    backend: Backend, name: str, size: tuple[int, int] | None, thresholds: dict[str, float | None]
) -> ModelInfo:
    """Return the metadata of a backend's model with the size and thresholds of the caller.

    Args:
        backend: the loaded model.
        name: name of the model for errors.
        size: (height, width) of the network's input in pixels; None for the model's own.
        thresholds: fields of `ModelInfo` by name; None for the model's own.

    Raises:
        ValueError: if a value is invalid, the model doesn't support the size, or NMS is part of the model's graph and
            a threshold can't be applied after it.
    """
    own = backend.info
    given: dict[str, Any] = {field: value for field, value in thresholds.items() if value is not None}
    if own.form in NMS_FORMS:
        check_thresholds_of_graph(own, name, given)
    if size is not None:
        if not isinstance(size, (tuple, list, np.ndarray)):
            raise ValueError(f'size must be (height, width), got {size!r}')
        given['input_size'] = tuple(size)
        if backend.size not in (None, tuple(size)):
            raise ValueError(
                f'size must be {backend.size}, the fixed size of {name}, got {tuple(size)}; export the model with a '
                'dynamic size to change it'
            )
    elif backend.size not in (None, own.input_size):
        raise ValueError(
            f"{name}: metadata {PREFIX}input_size must be {backend.size}, the size of the graph's input, "
            f'got {own.input_size}'
        )
    info = replace(own, **given)
    info.check_given()
    return info


def check_thresholds_of_graph(info: ModelInfo, name: str, given: dict[str, Any]) -> None:
    """Raise a `ValueError` for thresholds that can't be applied after the NMS in a model's graph.

    Args:
        info: the model's metadata.
        name: name of the model for errors.
        given: thresholds by name.
    """
    fixed = [threshold for threshold in given if threshold != 'score_thr']
    if fixed:
        raise ValueError(
            f'{name}: {", ".join(fixed)} can not be changed, because NMS is part of its graph (export format '
            f'{info.form}); export it with other thresholds, or in the format raw or decoded'
        )
    if given.get('score_thr', 1) < info.score_thr:
        raise ValueError(
            f'{name}: score_thr must be at least {info.score_thr}, that of the NMS in its graph (export format '
            f'{info.form}), got {given["score_thr"]}; export it with a lower one, or with the export format raw or '
            'decoded'
        )
