"""Export a detector to an ONNX file with metadata, without mmdeploy.

The opset selects one of PyTorch's two exporters:

- 18 and above, the default: the exporter based on `torch.export` (dynamo=True). Its graphs are clean (no Identity, no
  chains of shape arithmetic), it doesn't run the model, and it is the one that PyTorch develops.
- Below 18: the TorchScript exporter. The other one writes opset 18, and converts it to older opsets with a converter
  that fails on `Resize`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from rtmdet_runtime import FORMS, ModelInfo
from rtmdet_runtime.atomic_files import unfinished
from rtmdet_runtime.choices import DYNAMIC, OPSETS
from rtmdet_runtime.info import INPUT, MASK_OUTPUTS, OUTPUTS
from rtmdet_runtime.mask_kernel import KERNEL_PARTS, NUM_PROTOTYPES

from .folding import fold_batch_norms
from .forms import BoxMaps, DecodedForm, DecodedMaskForm, MaskMaps, PlacedMaskForm, RawForm
from .graph_parts import check_initializers
from .mask_nodes import MASK_INPUTS
from .metadata import has_masks, model_info
from .nms_nodes import append_efficient_nms, append_nms

if TYPE_CHECKING:
    from mmdet.models import BaseDetector

FIRST_OF_DYNAMO = 18


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    form: str = 'decoded',
    size: tuple[int, int] | None = None,
    dynamic: str = 'none',
    opset: int = 18,
    for_map: bool = False,
    score_thr: float | None = None,
    iou_thr: float | None = None,
    max_per_img: int | None = None,
) -> ModelInfo:
    """Write a model to an ONNX file, atomically, after it has passed ONNX's checker.

    The input is `images` (B, 3, H, W), float32, normalised. Outputs by export format, with N priors, C classes and
    K = `max_per_img`:

    - raw: `cls_8`, `cls_16`, ... (B, C, H / 8, W / 8), logits, then `reg_8`, `reg_16`, ... (B, 4, H / 8, W / 8),
      distances to the left, top, right and bottom side in cells, or their logarithms if `exp_on_reg`. These are the
      outputs of the last convolutions, for quantisation and for hardware that supports only convolutions.
    - decoded: `boxes` (B, N, 4), xyxy in pixels of the input, clipped to it; `scores` (B, N, C).
    - nms: `dets` (B, K, 5) and `labels` (B, K), see `append_nms`.
    - trt: `num_dets`, `det_boxes`, `det_scores`, `det_classes`, see `append_efficient_nms`.

    A model with masks has further outputs, and no export format `trt`, because `EfficientNMS_TRT` doesn't tell which
    priors it keeps:

    - raw: `kernel_8`, ... (B, 169, H / 8, W / 8), `prototypes` (B, 8, H / 8, W / 8); distances are at least 0.
    - decoded: `kernels` (B, N, 169) and `prototypes`.
    - nms: `mask_logits` (B, K, H / 8, W / 8), see `append_mask_logits`.

    Args:
        model: model of `load_model`; it isn't changed.
        path: the file to write.
        form: export format, one of `FORMS`.
        size: (height, width) in pixels, multiples of the coarsest stride; None for the test pipeline's.
        dynamic: one of `DYNAMIC`. With a fixed size, the priors are constants in the graph.
        opset: one of `OPSETS`; it also selects the exporter, see above.
        for_map: use the thresholds of the model's `test_cfg`, to measure mAP, instead of `DEPLOY_THRESHOLDS`.
        score_thr: score threshold; None for the one that `for_map` selects. In the export formats `nms` and `trt` it is
            part of the graph, otherwise the file only stores it for the runtime. The same applies to the next two.
        iou_thr: IoU threshold of the NMS.
        max_per_img: maximum number of boxes per image.

    Returns:
        The metadata of the file.

    Raises:
        ValueError: if a value isn't accepted, or the model isn't an RTMDet.
    """
    if form not in FORMS:
        raise ValueError(f'form must be one of {", ".join(FORMS)}, got {form!r}')
    if dynamic not in DYNAMIC:
        raise ValueError(f'dynamic must be one of {", ".join(DYNAMIC)}, got {dynamic!r}')
    if opset not in OPSETS:
        raise ValueError(f'opset must be from {OPSETS[0]} to {OPSETS[-1]}, got {opset}')
    check_model(model)
    given = dict(score_thr=score_thr, iou_thr=iou_thr, max_per_img=max_per_img)
    info = model_info(model, form, size, for_map=for_map, **given)
    info.check_given()

    height, width = info.input_size
    maps = maps_of(model)
    fixed = None if dynamic == 'all' else (height, width)
    if form == 'raw':
        module, names = RawForm(maps), info.outputs
    elif not info.mask_stride:
        module, names = DecodedForm(maps, fixed), OUTPUTS['decoded']
    elif form == 'decoded':
        module, names = DecodedMaskForm(maps, fixed), info.outputs
    else:
        module, names = PlacedMaskForm(maps, fixed), OUTPUTS['decoded'] + MASK_INPUTS
    # torch.export treats a batch of 1 as a constant, so a dynamic batch is traced with 2.
    images = torch.zeros(1 if dynamic == 'none' else 2, 3, height, width)
    if opset >= FIRST_OF_DYNAMO:
        graph = _export_dynamo(module.eval(), images, dynamic, opset, list(names), max(info.strides))
    else:
        graph = _export_torchscript(module.eval(), images, dynamic, opset, list(names))
    graph = finish(graph, dynamic, info)
    write_onnx(graph, path)
    return info


def check_model(model: nn.Module) -> None:
    """Raise a `ValueError` if the head of a model isn't RTMDet's, or has an objectness branch or shifted priors.

    The kernels of masks must have RTMDet-Ins' number of weights.
    """
    head: Any = getattr(model, 'bbox_head', None)
    of_levels = ['cls_convs', 'reg_convs', 'rtm_cls', 'rtm_reg']
    of_levels += ['kernel_convs', 'rtm_kernel'] if has_masks(head) else []
    separate = all(isinstance(getattr(head, part, None), nn.ModuleList) for part in of_levels)
    if not separate or not (hasattr(head, 'exp_on_reg') or has_masks(head)):
        raise ValueError(
            'bbox_head must be RTMSepBNHead or RTMInsSepBNHead, or RTMDetSepBNHead or RTMDetInsSepBNHead of mmdet, got '
            f'{type(head or model).__name__}'
        )
    if has_masks(head) and (found := head.rtm_kernel[0].out_channels) != sum(KERNEL_PARTS):
        raise ValueError(
            f'a mask kernel must have {sum(KERNEL_PARTS)} weights to export, as in all configs of RTMDet-Ins, got '
            f'{found}'
        )
    if getattr(head, 'with_objectness', False):
        raise ValueError('with_objectness must be False to export, as in all configs of RTMDet, got True')
    if head.prior_generator.offset != 0:
        raise ValueError(
            f'offset of the priors must be 0 to export, as in all configs of RTMDet, got {head.prior_generator.offset}'
        )


def maps_of(model: BaseDetector) -> BoxMaps:
    """Return the module that computes the maps of a model, with its batch norms folded."""
    return (MaskMaps if has_masks(model.bbox_head) else BoxMaps)(fold_batch_norms(model)).eval()


def _export_dynamo(
    module: nn.Module, images: Tensor, dynamic: str, opset: int, names: list[str], divisor: int
) -> onnx.ModelProto:
    batch, height, width = (torch.export.Dim(name) for name in ('batch', 'height', 'width'))
    axes = {'none': {}, 'batch': {0: batch}, 'all': {0: batch, 2: divisor * height, 3: divisor * width}}[dynamic]
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            (images,),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=(axes,) if axes else None,
            input_names=[INPUT],
            output_names=names,
            verbose=False,
        )
    return program.model_proto  # pyright: ignore[reportOptionalMemberAccess]  # None only with dynamo=False


def _export_torchscript(
    module: nn.Module, images: Tensor, dynamic: str, opset: int, names: list[str]
) -> onnx.ModelProto:
    axes = {'none': {}, 'batch': {0: 'batch'}, 'all': {0: 'batch', 2: 'height', 3: 'width'}}[dynamic]
    out_axes = {0: 'batch'} if axes else {}
    file = io.BytesIO()
    with torch.no_grad(), _quiet():  # the exporter warns about shape checks in Python, which hold for every size
        torch.onnx.export(
            module,
            (images,),
            file,  # pyright: ignore[reportArgumentType]  # only the other exporter needs a path
            dynamo=False,
            opset_version=opset,
            dynamic_axes={INPUT: axes, **{name: out_axes for name in names}} if axes else None,
            input_names=[INPUT],
            output_names=names,
        )
    return onnx.load_from_string(file.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' progress on standard output, and their warnings about their own code."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def finish(model: onnx.ModelProto, dynamic: str, info: ModelInfo) -> onnx.ModelProto:
    """Name the axes, append NMS if the export format has it, infer all shapes, add the metadata, check the graph."""
    graph = model.graph
    num_priors = sum((info.input_size[0] // stride) * (info.input_size[1] // stride) for stride in info.strides)
    batch = 1 if dynamic == 'none' else 'batch'
    height, width = ('height', 'width') if dynamic == 'all' else info.input_size
    priors = 'num_priors' if dynamic == 'all' else num_priors
    boxes, scores = OUTPUTS['decoded']
    cls, reg = OUTPUTS['raw']
    kernel, prototypes = MASK_OUTPUTS['raw']
    kernels, _ = MASK_OUTPUTS['decoded']
    placed_kernels, mask_inputs = MASK_INPUTS
    shapes = {
        INPUT: [batch, 3, height, width],
        boxes: [batch, priors, 4],
        scores: [batch, priors, len(info.classes)],
        kernels: [batch, priors, sum(KERNEL_PARTS)],
        placed_kernels: [batch, priors, sum(KERNEL_PARTS)],
    }

    def at(stride: int) -> list[int | str]:
        return [f'{side}_{stride}' if isinstance(side, str) else side // stride for side in (height, width)]

    for name, channels in ((cls, len(info.classes)), (reg, 4), (kernel, sum(KERNEL_PARTS))):
        shapes |= {f'{name}_{stride}': [batch, channels, *at(stride)] for stride in info.strides}
    for name, channels in ((prototypes, NUM_PROTOTYPES), (mask_inputs, 2 + NUM_PROTOTYPES)):
        shapes[name] = [batch, channels, *at(info.strides[0])]
    for values in (graph.input, graph.output):
        named = [helper.make_tensor_value_info(v.name, onnx.TensorProto.FLOAT, shapes[v.name]) for v in values]
        del values[:]
        values.extend(named)
    del graph.value_info[:]  # these have the exporter's names for the axes; shapes are inferred again below
    for part in (graph, *graph.node):  # the origin of each node, with paths of this machine
        del part.metadata_props[:]
    if info.form == 'nms':
        append_nms(model, info)
    elif info.form == 'trt':
        append_efficient_nms(model, info)
    model.producer_name, model.producer_version = 'rtmdet_plugin', info.version
    graph.name = 'RTMDet'
    helper.set_model_props(model, info.to_properties())
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_onnx(model: onnx.ModelProto, path: str | Path) -> None:
    """Write a model to a file atomically.

    Raises:
        ValueError: see `check_initializers`; for example, batch norms with a negative variance give NaN weights.
    """
    check_initializers(model, path)
    with unfinished(Path(path)) as (file,):
        file.write_bytes(model.SerializeToString())
