"""ncnn as an mmdeploy backend, converted by pnnx; registered with mmdeploy on import.

mmdeploy 1.3.1 calls `mmdeploy_onnx2ncnn`, which its wheel doesn't contain and which must be compiled. pnnx is ncnn's
own converter, and available as a wheel (`pip install pnnx`). It doesn't support mmdeploy's `DetectionOutput` node, so
the graph ends with boxes and scores, and NMS runs here.
"""

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mmdeploy.backend.ncnn  # noqa: F401  its manager is registered first, so that this one replaces it
import numpy as np
import torch
from mmdeploy.backend.base import BACKEND_MANAGERS, BaseWrapper
from mmdeploy.backend.ncnn.backend_manager import NCNNManager
from torch import Tensor

from rtmdet_runtime.info import OUTPUTS

from ..export.pnnx import run_pnnx
from .post_processing import PostProcessing, postprocess

DECODED = OUTPUTS['decoded']
BLOBS = dict(in0='input', out0=DECODED[0], out1=DECODED[1])  # pnnx names blobs by number


@BACKEND_MANAGERS.register('ncnn')
class RTMNCNNManager(NCNNManager):
    """Convert ONNX files and build their wrapper; one image at a time, of a fixed size."""

    @classmethod
    def is_available(cls, with_custom_ops: bool = False) -> bool:
        """Return whether ncnn and its converter are installed; no custom operators are needed."""
        return all(importlib.util.find_spec(name) is not None for name in ('ncnn', 'pnnx'))

    @classmethod
    def to_backend(cls, ir_files, work_dir, **kwargs) -> list[str]:
        """Write a `.param` and a `.bin` file for each ONNX file; float32, blobs `input`, `boxes` and `scores`.

        Returns:
            Paths of both files for each ONNX file.

        Raises:
            RuntimeError: if pnnx fails; the message has the end of its output.
        """
        files = []
        for ir_file in ir_files:
            target = Path(work_dir) / Path(ir_file).stem
            files += convert(Path(ir_file), target.with_suffix('.param'), target.with_suffix('.bin'))
        return files

    @classmethod
    def build_wrapper(
        cls, backend_files, device='cpu', input_names=None, output_names=None, deploy_cfg: Any = None, **kwargs
    ):
        """Return the wrapper that mmdeploy's models call."""
        param, weights = backend_files
        return RTMNCNNWrapper(param, weights, PostProcessing.of(deploy_cfg))


def convert(model: Path, param: Path, weights: Path) -> list[str]:
    """Convert one ONNX file with one input of a fixed size; see `RTMNCNNManager.to_backend`."""
    with tempfile.TemporaryDirectory() as folder:
        made, binary = run_pnnx(model, Path(folder))
        param.write_text(rename_blobs(made.read_text(), BLOBS))
        shutil.copy(binary, weights)
    return [str(param), str(weights)]


def rename_blobs(param: str, names: dict[str, str]) -> str:
    """Rename blobs in the text of a `.param` file.

    The third and fourth word of a line are the numbers of its inputs and outputs.
    """
    lines = []
    for line in param.splitlines():
        words = line.split()
        if len(words) > 4:
            end = 4 + int(words[2]) + int(words[3])
            line = ' '.join([*words[:4], *(names.get(word, word) for word in words[4:end]), *words[end:]])
        lines.append(line)
    return '\n'.join(lines) + '\n'


class RTMNCNNWrapper(BaseWrapper):
    """Runs an ncnn model on the CPU, followed by NMS.

    Args:
        param: the `.param` file.
        weights: the `.bin` file.
        settings: settings of the NMS.
    """

    def __init__(self, param: str, weights: str, settings: PostProcessing) -> None:
        super().__init__(list(OUTPUTS['nms']))
        from mmdeploy.backend.ncnn.wrapper import NCNNWrapper

        self.network = NCNNWrapper(param, weights, output_names=DECODED)
        # By default ncnn uses one thread per core, and they spin: on busy cores that is slower than one thread.
        self.network._net.opt.num_threads = torch.get_num_threads()
        self.settings = settings

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `dets` (B, K, 5) and `labels` (B, K), padded with score 0 and label -1; images run one by one."""
        outputs = self.network(inputs)
        images = zip(*(outputs[name].numpy() for name in DECODED), strict=True)
        results = [postprocess(boxes, scores, self.settings) for boxes, scores in images]
        dets = [torch.from_numpy(np.column_stack((boxes, scores))) for boxes, scores, _ in results]
        labels = [torch.from_numpy(labels) for _, _, labels in results]
        pad = torch.nn.utils.rnn.pad_sequence
        padded = pad(dets, batch_first=True), pad(labels, batch_first=True, padding_value=-1)
        return dict(zip(self.output_names, padded, strict=True))
