"""OpenVINO on the CPU, for its IR and for ONNX files."""

from __future__ import annotations

import queue
from pathlib import Path

import numpy as np
import openvino as ov

from ..info import ModelInfo
from . import ModelFiles, streams_of

HINT = 'INFERENCE_PRECISION_HINT'
"""Property of OpenVINO for the precision that float layers compute in."""
HINTS = dict(float32='f32', bfloat16='bf16', float16='f16')
"""Precision: OpenVINO's name of it."""


class OpenVINOBackend:
    """Run a model with OpenVINO; see `Backend`.

    Args:
        path: file of the model.
        threads: number of threads; None for OpenVINO's default.
        precision: see `open_backend`.
        calls: number of calls that run at a time and share the threads; others wait for them.
    """

    def __init__(self, path: Path, threads: int | None, precision: str, calls: int = 1) -> None:
        self.files = ModelFiles(*(file for file in (path, path.with_suffix('.bin')) if file.is_file()))
        self.streams, self._settings = streams_of(threads)[0], (threads, precision)
        core = ov.Core()
        try:
            model = core.read_model(path)
            properties = read_properties(model)
            self.info = ModelInfo.from_properties(properties, path)
            settings: dict[str, str | int] = {'PERFORMANCE_HINT': 'LATENCY'} if calls == 1 else {'NUM_STREAMS': calls}
            if (hint := precision_hint(precision, name_of(core.get_property('CPU', HINT)))) is not None:
                settings[HINT] = hint
            if threads is not None:
                settings['INFERENCE_NUM_THREADS'] = threads
            self.model = core.compile_model(model, 'CPU', settings)
            self._requests: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
            for _ in range(calls):
                self._requests.put(self.model.create_infer_request())
        except RuntimeError as error:
            reason = ' '.join(str(error).split())
            if 'EfficientNMS_TRT' in reason:
                reason = 'its export format must be raw, decoded or nms, got trt, which needs TensorRT'
            raise ValueError(f'{path} must be a model that OpenVINO can load, got an error: {reason}') from None
        actual = name_of(self.model.get_property(HINT))
        if precision not in ('auto', actual):
            raise ValueError(
                f'precision must be one that OpenVINO has on this CPU, got {precision}, for which it takes {actual}'
            )
        quantised = any(op.get_type_name() == 'FakeQuantize' for op in model.get_ops())
        self.precision = f'INT8 and {actual}' if quantised else actual
        shape = model.inputs[0].partial_shape
        batch, _, height, width = (axis.get_length() if axis.is_static else None for axis in shape)
        self.batch = batch
        self.size = (height, width) if height and width else None

    def for_streams(self) -> OpenVINOBackend:
        """Open the same model for several calls at a time; see `Streaming`."""
        return OpenVINOBackend(self.files.again(), *self._settings, calls=self.streams)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Run the network on normalised images; see `Backend`."""
        request = self._requests.get()
        try:
            return list(request.infer(images, share_inputs=True).values())
        finally:
            self._requests.put(request)


def precision_hint(precision: str, own_choice: str) -> str | None:
    """Return the value of the property `HINT` for a precision; None leaves the choice to OpenVINO.

    OpenVINO chooses bfloat16 on CPUs with instructions for it (AMX, AVX512-BF16), and float16 on some ARM CPUs, where
    'auto' is float32 because the AP in float16 isn't measured.

    Args:
        precision: precision that the caller asks for, one of `PRECISIONS`.
        own_choice: precision that OpenVINO chooses on this CPU.
    """
    if precision == 'auto':
        return HINTS['float32'] if own_choice == 'float16' else None
    return HINTS[precision]


def name_of(hint: ov.Type) -> str:
    """Return the name of `HINTS` for a precision of OpenVINO; OpenVINO's own name for others."""
    return next((name for name, value in HINTS.items() if value == hint.to_string()), hint.to_string())


def read_properties(model: ov.Model) -> dict[str, str]:
    """Return the metadata of the ONNX file, which OpenVINO stores under `framework`, in its IR as well."""
    if not model.has_rt_info('framework'):
        return {}
    return {name: value.astype(str) for name, value in model.get_rt_info('framework').astype(dict).items()}
