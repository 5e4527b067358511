"""OpenVINO as an mmdeploy backend, with OpenVINO's current API; registered with mmdeploy on import.

mmdeploy 1.3.1 converts with the command `mo` and runs through `openvino.inference_engine`. OpenVINO has removed both.
"""

from pathlib import Path
from typing import Any

import mmdeploy.backend.openvino  # noqa: F401  its manager is registered first, so that this one replaces it
import torch
from mmdeploy.backend.base import BACKEND_MANAGERS, BaseWrapper
from mmdeploy.backend.openvino.backend_manager import OpenVINOManager
from torch import Tensor


@BACKEND_MANAGERS.register('openvino')
class RTMOpenVINOManager(OpenVINOManager):
    """Convert ONNX files and build their wrapper; batch and size may be dynamic."""

    @classmethod
    def to_backend(cls, ir_files, work_dir, deploy_cfg=None, **kwargs) -> list[str]:
        """Write an `.xml` and, next to it, a `.bin` file for each ONNX file; float32, as in the checkpoint.

        Returns:
            Paths of the `.xml` files.
        """
        import openvino

        files = []
        for ir_file in ir_files:
            path = Path(work_dir) / f'{Path(ir_file).stem}.xml'
            openvino.save_model(openvino.convert_model(ir_file), path, compress_to_fp16=False)
            files.append(str(path))
        return files

    @classmethod
    def build_wrapper(
        cls, backend_files, device='cpu', input_names=None, output_names: Any = None, deploy_cfg=None, **kwargs
    ):
        """Return the wrapper that mmdeploy's models call."""
        return RTMOpenVINOWrapper(backend_files[0], output_names)


class RTMOpenVINOWrapper(BaseWrapper):
    """Runs an OpenVINO model on the CPU.

    Args:
        path: the `.xml` file.
        output_names: names of the outputs, in the order that mmdeploy's model expects.
    """

    def __init__(self, path: str, output_names: list[str]) -> None:
        super().__init__(output_names)
        import openvino

        # CPUs with bfloat16 use it by default, and results would differ from PyTorch's by pixels.
        self.model = openvino.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return outputs by name, on the CPU."""
        outputs = self.model({name: value.cpu().contiguous().numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(outputs[name].copy()) for name in self.output_names}
