"""What an exported model says about itself, and how that is written into a file.

ONNX keeps it in `metadata_props`, OpenVINO's IR in `rt_info`; beside the files of ncnn and TensorRT lies a JSON file:
each time as names with the prefix `rtmdet.` and values in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from pathlib import Path

FORMS = ('raw', 'decoded', 'nms', 'trt')
OUTPUTS = dict(
    decoded=('boxes', 'scores'),
    nms=('dets', 'labels'),
    trt=('num_dets', 'det_boxes', 'det_scores', 'det_classes'),
)
PREFIX = 'rtmdet.'
KINDS = dict(str=str, bool=bool, int=Integral, float=Real)


def fits(value: object, kind: str) -> bool:
    """Whether a value has a type of `ModelInfo`, such as 'float' or 'tuple[str, ...]' of at least one."""
    if kind.startswith('tuple['):
        if not isinstance(value, tuple) or not value:
            return False
        kinds = kind[len('tuple[') : -1].split(', ')
        kinds = kinds[:1] * len(value) if kinds[-1] == '...' else kinds
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    return isinstance(value, KINDS[kind]) and isinstance(value, bool) == (kind == 'bool')


@dataclass(frozen=True)
class ModelInfo:
    """Everything beside the weights that a prediction needs.

    Attributes:
        form: what the outputs are, one of `FORMS`.
        classes: names, in the order of the labels.
        input_size: (height, width) that pictures are scaled to, in pixels.
        mean, std: of the normalisation, for each channel in the order that the model takes.
        to_rgb: whether the model takes RGB; pictures are read as BGR.
        keep_ratio: scale both sides alike and pad right and bottom; otherwise stretch.
        pad_value: of the padding, BGR before the normalisation.
        strides: of the levels in pixels, finest first.
        exp_on_reg: whether the raw distances are logarithms.
        score_thr: a box needs a score above it.
        iou_thr: of NMS; a box goes where its IoU with a better one of its class is above it.
        nms_pre: candidates that take part in NMS, the best of an image.
        max_per_img: boxes of an image, at most.
        version: of the package that wrote the file.
    """

    form: str
    classes: tuple[str, ...]
    input_size: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    to_rgb: bool
    keep_ratio: bool
    pad_value: tuple[float, float, float]
    strides: tuple[int, ...]
    exp_on_reg: bool
    score_thr: float
    iou_thr: float
    nms_pre: int
    max_per_img: int
    version: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs in their order."""
        if self.form == 'raw':
            return tuple(f'{kind}_{stride}' for kind in ('cls', 'reg') for stride in self.strides)
        return OUTPUTS[self.form]

    def check_types(self) -> None:
        """Raise a `ValueError` that begins with the name of the first field whose value isn't of its type."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not fits(value, field.type):
                raise ValueError(f'{field.name}={value!r}; accepted: {field.type}')

    def check(self) -> None:
        """Raise a `ValueError` for a size or thresholds that can't serve, or a value that isn't of its type."""
        self.check_types()
        divisor = max(self.strides)
        if len(self.input_size) != 2 or any(length < divisor or length % divisor for length in self.input_size):
            raise ValueError(f'size={tuple(self.input_size)}; accepted: (height, width), multiples of {divisor}')
        for name in ('score_thr', 'iou_thr'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name}={getattr(self, name)}; accepted: 0 to 1')
        for name in ('nms_pre', 'max_per_img'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name}={getattr(self, name)}; accepted: 1 or more')

    def to_properties(self) -> dict[str, str]:
        """As names and JSON values."""
        return {PREFIX + name: json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], source: str | Path) -> ModelInfo:
        """Back from `to_properties`; other names are left alone.

        Raises:
            ValueError: where a name is missing, a value isn't JSON in a string, or not of its type; it names the
                `source`.
        """
        values = {}
        for name in (field.name for field in fields(cls)):
            if PREFIX + name not in properties:
                raise ValueError(
                    f'{source}: not a model that `rtmdet export` wrote, its metadata has no {PREFIX + name!r}'
                )
            try:
                value = json.loads(properties[PREFIX + name])
            except (TypeError, ValueError):
                raise ValueError(
                    f'{source}: metadata {PREFIX + name}={properties[PREFIX + name]!r} is not JSON in a string'
                ) from None
            values[name] = tuple(value) if isinstance(value, list) else value
        if values['form'] not in FORMS:
            raise ValueError(f'{source}: metadata {PREFIX}form={values["form"]!r}; accepted: {", ".join(FORMS)}')
        info = cls(**values)
        try:
            info.check_types()
        except ValueError as error:
            raise ValueError(f'{source}: metadata {PREFIX}{error}') from None
        return info

    @classmethod
    def from_file(cls, file: Path, model: Path) -> ModelInfo:
        """From a JSON file of properties that lies beside a model.

        Raises:
            FileNotFoundError: where it doesn't; it names the `model`.
            ValueError: see `from_properties`; where it isn't JSON as well.
        """
        if not file.is_file():
            raise FileNotFoundError(f'{model} needs {file.name} beside it, as rtmdet wrote it')
        try:
            properties = json.loads(file.read_text())
        except ValueError:
            raise ValueError(f'{file}: not JSON, as rtmdet writes it') from None
        if not isinstance(properties, dict):
            raise ValueError(f'{file}: not a JSON object of names and strings, as rtmdet writes it')
        return cls.from_properties(properties, file)
