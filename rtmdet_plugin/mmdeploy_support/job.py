"""The steps of a deployment with mmdeploy in one process; mmdeploy's tools start one process per step."""

import copy
import functools
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from mmdeploy.apis.core.pipeline_manager import no_mp
from mmdeploy.apis.onnx import export
from mmdeploy.apis.utils import to_backend
from mmdeploy.backend.base import get_backend_manager
from mmdeploy.backend.sdk.export_info import export2SDK
from mmdeploy.codebase import get_codebase_class, import_codebase
from mmdeploy.utils import get_calib_filename, get_codebase, get_dynamic_axes
from mmdeploy.utils.config_utils import get_codebase_external_module
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import nn

from ..checkpoints.load_model import load_model, read_config
from ..compat.onnx_export import legacy_onnx_export
from . import register  # noqa: F401
from .config import agree, load_deploy_config

INSTALL = dict(
    onnxruntime='pip install onnxruntime',
    openvino='pip install openvino',
    ncnn='pip install ncnn pnnx',
    tensorrt="install NVIDIA's TensorRT with its Python package",
    sdk='pip install mmdeploy_runtime==1.3.1 (Python 3.11 at most)',
)


@dataclass(frozen=True)
class Job:
    """One model for one backend.

    Attributes:
        model_cfg: the model's config, after `config.agree`.
        deploy_cfg: the deploy config, after `config.agree`.
        checkpoint: the checkpoint's path.
        model: the PyTorch model, in evaluation mode on the CPU.
        device: device of the backend.
    """

    model_cfg: Config
    deploy_cfg: Config
    checkpoint: Path
    model: BaseModel
    device: str

    @classmethod
    def of(cls, config, checkpoint, deploy_cfg, device: str) -> 'Job':
        """Read the arguments of `deploy`, which documents them and the errors."""
        model_cfg, deploy_cfg = agree(read_config(config), load_deploy_config(deploy_cfg))
        model = load_model(model_cfg, Path(checkpoint))
        # mmdet clips boxes to the image before NMS. A graph doesn't know where the image ends in its padded input, so
        # the compared model must not clip either: otherwise NMS may decide differently for objects at the border.
        model.bbox_head.bbox_coder.clip_border = False
        return cls(model_cfg, deploy_cfg, Path(checkpoint), model, device)

    @property
    def backend(self) -> str:
        """The backend of the deploy config."""
        return self.deploy_cfg.backend_config.type

    @functools.cached_property
    def graph_cfg(self) -> Config:
        """The deploy config of the conversion; the SDK runs what is converted for ONNX Runtime."""
        cfg = copy.deepcopy(self.deploy_cfg)
        if self.backend == 'sdk':
            cfg.backend_config = dict(type='onnxruntime')
        return cfg

    def require_backend(self) -> None:
        """Raise a `ModuleNotFoundError` that says what to install, if the backend isn't installed.

        Raises:
            RuntimeError: if TensorRT is too new for mmdeploy's use of its API.
        """
        if self.backend == 'tensorrt' and find_spec('tensorrt') is not None:
            version = import_module('tensorrt').__version__
            if int(version.partition('.')[0]) >= 10:
                raise RuntimeError(
                    f'tensorrt must be version 8 for mmdeploy 1.3.1, got {version}; for 10 and later use '
                    '`rtmdet export` and `rtmdet engine`'
                )
        manager = get_backend_manager(self.backend)
        if manager is None or not manager.is_available():
            raise ModuleNotFoundError(f'{self.backend} is not installed here: {INSTALL[self.backend]}')

    def predict_torch(self, image: str | Path) -> InstanceData:
        """Return PyTorch's boxes, in pixels of the image."""
        return self._predict(self.model, image)

    def export(self, image: str | Path, folder: Path) -> Path:
        """Write the ONNX graph, traced with the image."""
        onnx_cfg = self.graph_cfg.onnx_config
        path = folder / onnx_cfg.save_file
        data, images = self._input(image, self.model.data_preprocessor)
        with no_mp(), legacy_onnx_export(), warnings.catch_warnings():
            # Dozens of lines on sizes that become constants, intended or irrelevant; other warnings stay.
            warnings.simplefilter('ignore', torch.jit.TracerWarning)
            warnings.filterwarnings('ignore', 'Exporting aten::index operator')
            export(
                copy.deepcopy(self.model),  # mmdeploy replaces modules permanently
                images,
                str(path.with_suffix('')),
                # mmdeploy's own rewriters for ncnn are for its own converter, and take minutes.
                backend='onnxruntime' if self.backend == 'ncnn' else self.graph_cfg.backend_config.type,
                input_metas=dict(data_samples=data['data_samples'], mode='predict'),
                context_info=dict(deploy_cfg=self.graph_cfg),
                input_names=onnx_cfg.input_names,
                output_names=onnx_cfg.output_names,
                opset_version=onnx_cfg.opset_version,
                dynamic_axes=get_dynamic_axes(self.graph_cfg),
                keep_initializers_as_inputs=onnx_cfg.keep_initializers_as_inputs,
            )
        return path

    def convert(self, onnx_file: Path) -> list[Path]:
        """Write the backend's files next to the graph; for INT8 in TensorRT, first the calibration data."""
        calibration = get_calib_filename(self.graph_cfg)
        if calibration is not None:
            from mmdeploy.apis import create_calib_input_data

            target = str(onnx_file.parent / calibration)
            create_calib_input_data(target, self.graph_cfg, self.model_cfg, str(self.checkpoint), device=self.device)
        files = to_backend(
            self.graph_cfg.backend_config.type,
            [str(onnx_file)],
            work_dir=str(onnx_file.parent),
            deploy_cfg=self.graph_cfg,
            device=self.device,
        )
        return [Path(file) for file in files]

    def describe(self, folder: Path) -> None:
        """Write `deploy.json`, `pipeline.json` and `detail.json`, which mmdeploy's SDK needs to run the folder."""
        model_cfg = copy.deepcopy(self.model_cfg)  # mmdeploy renames arguments in its test pipeline
        export2SDK(self.graph_cfg, model_cfg, str(folder), str(self.checkpoint), self.device)

    def predict_backend(self, files: list[Path], image: str | Path) -> InstanceData:
        """Return the backend's boxes, in pixels of the image."""
        if self.backend == 'sdk':
            from .sdk import detect

            return detect(files[0].parent, image, self.device)
        model = task_processor(self.model_cfg, self.deploy_cfg, self.device).build_backend_model(
            [str(file) for file in files]
        )
        return self._predict(model, image)

    def _predict(self, model: BaseModel, image: str | Path) -> InstanceData:
        data, _ = self._input(image)
        with torch.no_grad():
            sample = model.test_step(data)[0]
        found, (height, width) = sample.pred_instances.to('cpu'), sample.ori_shape
        size = found.bboxes.new_tensor([width, height])
        # The SDK clips boxes to the last pixel, and drops boxes whose area is then 0.
        found = found[((found.bboxes[:, :2] < size - 1) & (found.bboxes[:, 2:] > 0)).all(dim=1)]
        found.bboxes = found.bboxes.clamp(torch.zeros(4), size.repeat(2))
        return found

    def _input(self, image: str | Path, data_preprocessor: nn.Module | None = None):
        return task_processor(self.model_cfg, self.graph_cfg, 'cpu').create_input(
            str(image), data_preprocessor=data_preprocessor
        )


def task_processor(model_cfg: Config, deploy_cfg: Config, device: str):
    """Return mmdeploy's `ObjectDetection`, without its check of the device: a graph for TensorRT is made on the CPU."""
    codebase = get_codebase(deploy_cfg, model_cfg)
    import_codebase(codebase, get_codebase_external_module(deploy_cfg))
    return get_codebase_class(codebase).build_task_processor(model_cfg, deploy_cfg, device)
