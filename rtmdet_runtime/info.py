"""What an exported model says about itself, and how that is written into a file.

ONNX keeps it in `metadata_props`, OpenVINO's IR in `rt_info`; beside the files of ncnn and TensorRT lies a JSON file:
each time as names with the prefix `rtmdet.` and values in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

INPUT = 'images'
"""Name of the network's input."""
OUTPUTS = dict(
    raw=('cls', 'reg'),
    decoded=('boxes', 'scores'),
    nms=('dets', 'labels'),
    trt=('num_dets', 'det_boxes', 'det_scores', 'det_classes'),
)
"""Names of the network's outputs by export format; those of raw with the stride of each level: `cls_8`, ..."""
FORMS = tuple(OUTPUTS)
NMS_FORMS = ('nms', 'trt')
"""Export formats whose graph ends with NMS, which contains the thresholds."""
PREFIX = 'rtmdet.'
NUMBERS = {int: Integral, float: Real}
"""Annotated type: what is accepted for it, numpy's numbers too."""
MAX_SIDE = 16384
"""Pixels of a side of the network's input; the input alone takes 3 GB then."""
MAX_NUMBER = 1e6
"""Of mean and std, which are those of values up to 255; 1 / `MAX_NUMBER` is the smallest std."""


def fits(value: object, kind: type) -> bool:
    """Whether a value has an annotated type, such as `float` or `tuple[str, ...]` of at least one; a bool is no int."""
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple) or not value:
            return False
        kinds = get_args(kind)
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    return isinstance(value, NUMBERS.get(kind, kind)) and isinstance(value, bool) == (kind is bool)


def check_types(instance: object) -> None:
    """Raise a `ValueError` for the first field of a dataclass whose value hasn't the annotated type; see `fits`."""
    for name, kind in get_type_hints(type(instance)).items():
        accepted = str(kind) if get_args(kind) else kind.__name__
        require(name, getattr(instance, name), lambda value, kind=kind: fits(value, kind), accepted)


def require(name: str, value: Any, is_valid: Callable[[Any], bool], accepted: str) -> None:
    """Raise a `ValueError` that begins with the name of a value if it isn't valid."""
    if not is_valid(value):
        raise ValueError(f'{name} must be {accepted}, got {value!r}')


def within(low: float, high: float) -> Callable[[Sequence[float]], bool]:
    """A check that all values lie between two bounds; NaN doesn't."""
    return lambda values: all(low <= value <= high for value in values)


def is_rising(values: Sequence[float]) -> bool:
    """Whether each value is larger than the one before it."""
    return all(one < other for one, other in zip(values, values[1:], strict=False))


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
        names = OUTPUTS[self.form]
        return tuple(f'{name}_{stride}' for name in names for stride in self.strides) if self.form == 'raw' else names

    @property
    def output_shapes(self) -> tuple[tuple[int | None, ...], ...]:
        """Shapes of the network's outputs for one image, without the batch axis; None for any length."""
        count = len(self.classes)
        sides = [tuple(length // stride for length in self.input_size) for stride in self.strides]
        if self.form == 'raw':
            return tuple((channels, *side) for channels in (count, 4) for side in sides)
        priors = sum(height * width for height, width in sides)
        return dict(
            decoded=((priors, 4), (priors, count)),
            nms=((None, 5), (None,)),
            trt=((1,), (None, 4), (None,), (None,)),
        )[self.form]

    def check(self) -> None:
        """Raise a `ValueError` that begins with the name of the first field whose value can't be used."""
        check_types(self)
        require('form', self.form, FORMS.__contains__, ' or '.join(FORMS))
        require('mean', self.mean, within(-MAX_NUMBER, MAX_NUMBER), f'from {-MAX_NUMBER:.0f} to {MAX_NUMBER:.0f}')
        require('std', self.std, within(1 / MAX_NUMBER, MAX_NUMBER), f'above 0, up to {MAX_NUMBER:.0f}')
        require('pad_value', self.pad_value, within(0, 255), 'from 0 to 255')
        require('strides', self.strides, lambda values: values[0] > 0 and is_rising(values), 'rising, from 1')
        divisor = max(self.strides)
        require(
            'input_size',
            self.input_size,
            lambda size: len(size) == 2 and all(divisor <= n <= MAX_SIDE and n % divisor == 0 for n in size),
            f'(height, width), multiples of {divisor} up to {MAX_SIDE}',
        )
        for name in ('score_thr', 'iou_thr'):
            require(name, getattr(self, name), lambda value: 0 <= value <= 1, 'from 0 to 1')
        for name in ('nms_pre', 'max_per_img'):
            require(name, getattr(self, name), lambda value: value >= 1, '1 or more')

    def check_given(self) -> None:
        """Do as `check` for values that a caller gave: `input_size` is the argument and option `size`."""
        try:
            self.check()
        except ValueError as error:
            raise ValueError(str(error).removeprefix('input_')) from None

    def to_properties(self) -> dict[str, str]:
        """As names and JSON values."""
        return {PREFIX + name: json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], source: str | Path) -> ModelInfo:
        """Back from `to_properties`; other names are left alone.

        Raises:
            ValueError: if a name is missing, a value isn't JSON in a string, or `check` refuses it; it names the
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
            except (TypeError, ValueError, RecursionError):
                raise ValueError(
                    f'{source}: metadata {PREFIX + name}={properties[PREFIX + name]!r} is not JSON in a string'
                ) from None
            values[name] = tuple(value) if isinstance(value, list) else value
        info = cls(**values)
        try:
            info.check()
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
