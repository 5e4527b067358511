"""Metadata of an exported model, and how they are stored in a file.

ONNX files store them in `metadata_props`, OpenVINO's IR in `rt_info`; models of ncnn and TensorRT have a JSON file in
the same folder. In each case, names have the prefix `rtmdet.` and values are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from .mask_kernel import KERNEL_PARTS, NUM_PROTOTYPES

INPUT = 'images'
"""Name of the network's input."""
OUTPUTS: dict[str, tuple[str, ...]] = dict(
    raw=('cls', 'reg'),
    decoded=('boxes', 'scores'),
    nms=('dets', 'labels'),
    trt=('num_dets', 'det_boxes', 'det_scores', 'det_classes'),
)
"""Names of the network's outputs by export format; those of raw with the stride of each level: `cls_8`, ..."""
MASK_OUTPUTS: dict[str, tuple[str, ...]] = dict(
    raw=('kernel', 'prototypes'), decoded=('kernels', 'prototypes'), nms=('mask_logits',)
)
"""Names of the outputs that a model with masks has in addition; those of raw are `kernel_8`, ... and `prototypes`."""
FORMS = tuple(OUTPUTS)
NMS_FORMS = ('nms', 'trt')
"""Export formats whose graph ends with NMS, which contains the thresholds."""
PREFIX = 'rtmdet.'
NUMBERS = {int: Integral, float: Real}
"""Annotated type: abstract type that is accepted for it, which includes the numbers of NumPy."""
MAX_SIDE = 16384
"""Maximum side of the network's input in pixels; an input of this size takes 3 GB."""
MAX_NUMBER = 1e6
"""Maximum of mean and std, whose usual values are below 255; 1 / `MAX_NUMBER` is the minimum of std."""


def fits(value: object, kind: type) -> bool:
    """Return whether a value has an annotated type, such as `float`; tuples must not be empty, and bool isn't int."""
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple) or not value:
            return False
        kinds = get_args(kind)
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    return isinstance(value, NUMBERS.get(kind, kind)) and isinstance(value, bool) == (kind is bool)


def check_types(instance: object) -> None:
    """Raise a `ValueError` for the first field of a dataclass whose value doesn't have its type; see `fits`."""
    for name, kind in get_type_hints(type(instance)).items():
        expected = str(kind) if get_args(kind) else kind.__name__
        require(name, getattr(instance, name), lambda value, kind=kind: fits(value, kind), expected)


def require(name: str, value: Any, is_valid: Callable[[Any], bool], expected: str) -> None:
    """Raise a `ValueError` that begins with the name of the value, unless the value is valid."""
    if not is_valid(value):
        raise ValueError(f'{name} must be {expected}, got {value!r}')


def within(low: float, high: float) -> Callable[[Sequence[float]], bool]:
    """Return a function that checks that all values are between two bounds; NaN isn't."""
    return lambda values: all(low <= value <= high for value in values)


def is_rising(values: Sequence[float]) -> bool:
    """Return whether each value is larger than the one before it."""
    return all(one < other for one, other in zip(values, values[1:], strict=False))


@dataclass(frozen=True)
class ModelInfo:
    """Settings that a prediction needs in addition to the graph and the weights.

    Attributes:
        form: export format, one of `FORMS`.
        classes: class names in the order of the labels.
        input_size: (height, width) of the network's input in pixels.
        mean, std: normalisation of each channel, in the model's order of channels.
        to_rgb: whether the model takes RGB; images are read as BGR.
        keep_ratio: whether images are resized with their ratio kept and padded on the right and at the bottom;
            otherwise they are stretched.
        pad_value: value of the padding for each channel, BGR, before the normalisation.
        strides: strides of the levels in pixels, finest first.
        exp_on_reg: whether the distances in the export format `raw` are logarithms.
        score_thr: minimum score of a box, exclusive.
        iou_thr: IoU threshold of NMS; a box is removed if its IoU with a better box of its class is above it.
        nms_pre: maximum number of candidates per image that take part in NMS, those with the highest scores.
        max_per_img: maximum number of boxes per image.
        version: version of the package that wrote the file.
        mask_stride: stride of the mask prototypes in pixels, that of the finest level; 0 for a model without masks.
        mask_thr: score above which a pixel belongs to a mask.
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
    mask_stride: int = 0
    mask_thr: float = 0.5

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the network's outputs in order."""
        return tuple(self.output_shapes)

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """Return the (height, width) of each level in cells, finest first."""
        height, width = self.input_size
        return tuple((height // stride, width // stride) for stride in self.strides)

    @property
    def output_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the shape of each output of the network by its name, in their order.

        Shapes are those of one image, without the batch axis; None for any length.
        """
        count, kernel, sizes = len(self.classes), sum(KERNEL_PARTS), self.level_sizes
        priors, prototypes = sum(height * width for height, width in sizes), (NUM_PROTOTYPES, *sizes[0])
        names = OUTPUTS[self.form] + (MASK_OUTPUTS[self.form] if self.mask_stride else ())
        if self.form == 'raw':
            levels = list(zip(self.strides, sizes, strict=True))
            channels = zip(names, (count, 4, kernel), strict=False)
            maps: dict[str, tuple[int | None, ...]]
            maps = {f'{name}_{stride}': (number, *size) for name, number in channels for stride, size in levels}
            return maps | dict.fromkeys(names[3:], prototypes)
        shapes = dict(
            decoded=((priors, 4), (priors, count), (priors, kernel), prototypes),
            nms=((None, 5), (None,), (None, *sizes[0])),
            trt=((1,), (None, 4), (None,), (None,)),
        )[self.form]
        return dict(zip(names, shapes, strict=False))

    def check(self) -> None:
        """Raise a `ValueError` that begins with the name of the first field whose value is invalid."""
        check_types(self)
        require('form', self.form, FORMS.__contains__, f'one of {", ".join(FORMS)}')
        require('mean', self.mean, within(-MAX_NUMBER, MAX_NUMBER), f'from {-MAX_NUMBER:.0f} to {MAX_NUMBER:.0f}')
        require('std', self.std, within(1 / MAX_NUMBER, MAX_NUMBER), f'above 0, up to {MAX_NUMBER:.0f}')
        require('pad_value', self.pad_value, within(0, 255), 'from 0 to 255')
        require(
            'strides', self.strides, lambda values: values[0] > 0 and is_rising(values), 'increasing and at least 1'
        )
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
            require(name, getattr(self, name), lambda value: value >= 1, 'at least 1')
        finest = self.strides[0]
        require('mask_stride', self.mask_stride, (0, finest).__contains__, f'0 (no masks) or {finest}')
        require('mask_thr', self.mask_thr, lambda value: 0 < value < 1, 'above 0 and below 1')
        if self.mask_stride:
            require('form', self.form, MASK_OUTPUTS.__contains__, f'one of {", ".join(MASK_OUTPUTS)} with masks')

    def check_given(self) -> None:
        """Like `check`, for values of a caller: errors call `input_size` by the name of the argument, `size`."""
        try:
            self.check()
        except ValueError as error:
            raise ValueError(str(error).removeprefix('input_')) from None

    def to_properties(self) -> dict[str, str]:
        """Return the fields as names with the prefix `rtmdet.` and JSON values."""
        return {PREFIX + name: json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], source: str | Path) -> ModelInfo:
        """Create the metadata from the result of `to_properties`; other names are ignored.

        Raises:
            ValueError: if a name is missing, a value isn't a string with JSON, or `check` fails. The error begins with
                `source`.
        """
        values = {}
        for field in fields(cls):
            name = field.name
            if PREFIX + name not in properties:
                if field.default is not MISSING:  # a file from before the field existed
                    continue
                raise ValueError(
                    f'{source} must be a model that `rtmdet export` wrote, got metadata without {PREFIX + name!r}'
                )
            try:
                value = json.loads(properties[PREFIX + name])
            except (TypeError, ValueError, RecursionError):
                raise ValueError(
                    f'{source}: metadata {PREFIX + name} must be a string with JSON, got {properties[PREFIX + name]!r}'
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
        """Read the metadata from a JSON file in the folder of a model.

        Raises:
            FileNotFoundError: if the JSON file doesn't exist.
            ValueError: if it isn't JSON; see `from_properties` as well.
        """
        if not file.is_file():
            raise FileNotFoundError(f'{model} needs {file.name} in the same folder; copy it there with the model')
        try:
            properties = json.loads(file.read_text())
        except ValueError:
            raise ValueError(f'{file} must be JSON that rtmdet wrote, got no JSON') from None
        if not isinstance(properties, dict):
            raise ValueError(f'{file} must be a JSON object that rtmdet wrote, got {type(properties).__name__}')
        return cls.from_properties(properties, file)
