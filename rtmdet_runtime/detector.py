"""`RTMDetector`: pictures in, boxes in the pictures' own coordinates out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from .backends import Backend, open_backend
from .image import Image, letterbox, normalization_table, read_image, write_input
from .info import NMS_FORMS, PREFIX, ModelInfo
from .postprocess import Candidates, check_outputs, class_wise_nms, decode_maps, select_candidates

Source = str | Path | Image


@dataclass(frozen=True)
class Detections:
    """Boxes of one picture, by score downwards.

    Attributes:
        boxes: xyxy in pixels of the picture as it was given, float32. (N, 4)
        scores: float32. (N,)
        labels: indices into the model's classes, int64. (N,)
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score_thr: float) -> Detections:
        """Those with a score above a threshold."""
        found = self.scores > score_thr
        return Detections(self.boxes[found], self.scores[found], self.labels[found])


class RTMDetector:
    """Preprocessing and post-processing around a backend, which computes the network.

    Args:
        model: file of `rtmdet export` (.onnx), OpenVINO's IR (.xml), ncnn's .param, or a TensorRT .engine, which is a
            program: take it only from people whom you trust. Or a backend that is loaded already (see `Backend`): then
            `backend`, `threads` and `reduced_precision` can't be given.
        backend: 'onnxruntime', 'openvino', 'ncnn' or 'tensorrt'; None chooses by the file's ending.
        size: (height, width) to scale pictures to, multiples of the coarsest stride; None for the model's own. Another
            one needs a model that was exported with a dynamic size.
        score_thr: a box needs a score above it; None for the model's own, as with the next three. If NMS is part of the
            model's graph, it can be raised, but not lowered, and the next three can't be changed.
        iou_thr: of NMS within a class.
        nms_pre: maximum number of candidates per image that take part in NMS.
        max_per_img: boxes of an image, at most.
        threads: of the backend; None leaves it to the backend.
        reduced_precision: let OpenVINO (bfloat16) and ncnn (float16) compute in less than float32 where the CPU has it;
            faster, and the boxes differ a little from PyTorch's.

    Attributes:
        backend: the loaded backend; several detectors may share it.
        info: what the backend says about the model, with the values given here in place of its own.

    Raises:
        FileNotFoundError, ImportError: see `open_backend`.
        ValueError: see `open_backend` and `changed_info`.
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
        threads: int | None = None,
        reduced_precision: bool = False,
    ) -> None:
        if isinstance(model, (str, Path)):
            self.backend = open_backend(model, backend, threads, reduced_precision)
        elif (backend, threads, reduced_precision) == (None, None, False):
            self.backend, model = model, type(model).__name__
        else:
            raise ValueError(
                f'model must be a file if backend, threads or reduced_precision is given, got {type(model).__name__}'
            )
        given = dict(score_thr=score_thr, iou_thr=iou_thr, nms_pre=nms_pre, max_per_img=max_per_img)
        self.info = changed_info(self.backend, str(model), size, given)

    @cached_property
    def _table(self) -> np.ndarray:
        return normalization_table(self.info)

    @overload
    def predict(self, images: Source, batch_size: int = 1) -> Detections: ...

    @overload
    def predict(self, images: Sequence[Source], batch_size: int = 1) -> list[Detections]: ...

    def predict(self, images: Source | Sequence[Source], batch_size: int = 1) -> Detections | list[Detections]:
        """Find objects.

        Args:
            images: a path or a picture (BGR, uint8, (H, W, 3)), or a list of these.
            batch_size: pictures that the network gets at once; a model with a fixed batch keeps its own.

        Returns:
            `Detections` for one picture, a list of them for a list.

        Raises:
            FileNotFoundError, ValueError: where a picture can't be read, or `batch_size` is below 1; ValueError as well
                if the network doesn't give what its metadata says, or gives NaN.
        """
        if isinstance(images, (str, Path, np.ndarray)):
            return self._predict_batch([images])[0]
        if batch_size < 1:
            raise ValueError(f'batch_size={batch_size}; accepted: 1 or more')
        step = self.backend.batch or batch_size
        batches = (images[start : start + step] for start in range(0, len(images), step))
        return [detections for batch in batches for detections in self._predict_batch(batch)]

    def _predict_batch(self, sources: Sequence[Source]) -> list[Detections]:
        inputs, scales = self.preprocess(sources)
        outputs = self.backend(inputs)
        return [self.postprocess([output[i] for output in outputs], scale) for i, scale in enumerate(scales)]

    def preprocess(self, sources: Sequence[Source]) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Pictures -> the network's input (B, 3, H, W), float32, and for each picture the factors (x, y) to it.

        A model with a fixed batch gets zeros where there are fewer pictures.
        """
        inputs = np.zeros((self.backend.batch or len(sources), 3, *self.info.input_size), np.float32)
        scales = []
        for source, out in zip(sources, inputs, strict=False):
            canvas, scale = letterbox(
                read_image(source), self.info.input_size, self.info.pad_value, self.info.keep_ratio
            )
            write_input(canvas, self._table, self.info.to_rgb, out)
            scales.append(scale)
        return inputs, scales

    def postprocess(self, outputs: Sequence[np.ndarray], scale: tuple[float, float]) -> Detections:
        """The network's outputs for one picture, without the batch axis -> its boxes."""
        check_outputs(outputs, self.info)
        boxes, scores, labels = self._boxes(outputs)
        if labels.max(initial=-1) >= len(self.info.classes):
            raise ValueError(
                f'metadata {PREFIX}classes must name at least {labels.max() + 1:.0f} classes, those of the network, '
                f'got {len(self.info.classes)}'
            )
        factors = np.array([1 / scale[0], 1 / scale[1]] * 2, np.float32)
        return Detections(boxes * factors, scores, labels.astype(np.int64))

    def _boxes(self, outputs: Sequence[np.ndarray]) -> Candidates:
        info = self.info
        if info.form == 'nms':
            dets, labels = outputs
            found = (labels >= 0) & (dets[:, 4] > info.score_thr)
            return dets[found, :4], dets[found, 4], labels[found]
        if info.form == 'trt':
            count, boxes, scores, labels = outputs
            found = (np.arange(len(scores)) < count[0]) & (scores > info.score_thr)
            return boxes[found], scores[found], labels[found]
        if info.form == 'raw':
            levels = len(info.strides)
            candidates = decode_maps(outputs[:levels], outputs[levels:], info.strides, info.exp_on_reg, info.score_thr)
        else:
            boxes, scores = outputs
            candidates = select_candidates(boxes, scores, info.score_thr)
        return class_wise_nms(candidates, info.iou_thr, info.nms_pre, info.max_per_img)


def changed_info(
    backend: Backend, name: str, size: tuple[int, int] | None, thresholds: dict[str, float | None]
) -> ModelInfo:
    """Return the settings of a backend with a caller's size and thresholds in place of its own.

    Args:
        backend: the loaded model.
        name: of the model, for messages.
        size: (height, width) of the network's input; None for the backend's own.
        thresholds: fields of `ModelInfo`; None for the backend's own.

    Raises:
        ValueError: for values that can't be used, a size that the model doesn't take, and thresholds that a model whose
            NMS is part of the graph can't apply any more.
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
                f'{name}: size={tuple(size)}, but the model was exported for {backend.size}; export it with '
                'a dynamic size'
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
    """Raise a `ValueError` for thresholds that a model with NMS in its graph can't apply any more.

    Args:
        info: the model's metadata.
        name: of the model, for messages.
        given: the thresholds by name.
    """
    fixed = [threshold for threshold in given if threshold != 'score_thr']
    if fixed:
        raise ValueError(
            f'{name}: {", ".join(fixed)} can not be changed, NMS is part of its graph (form {info.form}); '
            'export it with other thresholds, or with the form raw or decoded'
        )
    if given.get('score_thr', 1) < info.score_thr:
        raise ValueError(
            f'{name}: score_thr must be at least {info.score_thr}, that of the NMS in its graph (form {info.form}), '
            f'got {given["score_thr"]}; export it with a lower one, or with the form raw or decoded'
        )
