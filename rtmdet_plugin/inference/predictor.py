"""PyTorch as one more backend of `rtmdet_runtime`'s detector: a checkpoint, made fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from rtmdet_runtime import ModelInfo, RTMDetector
from rtmdet_runtime.backends import check_threads
from rtmdet_runtime.choices import TORCH_PRECISIONS

from ..checkpoints.load_model import load_model
from ..export.folding import fold_batch_norms
from ..export.forms import RawForm
from ..export.metadata import model_info
from ..export.onnx_export import check_model
from .device import check_device

PRECISIONS = {name: getattr(torch, name) for name in TORCH_PRECISIONS}


class TorchBackend:
    """A network in PyTorch; see `rtmdet_runtime.backends.Backend`. The export format is `raw`.

    Args:
        network: from normalised images to the maps, on the CPU.
        info: what the maps are, and how images are prepared for them.
        precision: one of `PRECISIONS`.
        compile: compile the network with `torch.compile`.
        cuda_graphs: record the kernels once for each input shape, and launch them together afterwards.
        device: 'cpu', 'cuda', or 'cuda:1' and the like.
    """

    batch: int | None = None
    size: tuple[int, int] | None = None

    def __init__(
        self, network: nn.Module, info: ModelInfo, precision: str, compile: bool, cuda_graphs: bool, device: str
    ) -> None:
        self.info = info
        self.dtype, self.device = PRECISIONS[precision], torch.device(device)
        self.network = network.to(self.device, self.dtype, memory_format=torch.channels_last)
        if compile:
            # Weights as constants: oneDNN lays them out once instead of at each call.
            self.network = torch.compile(self.network, options=dict(freezing=True))
        self.cuda_graphs = cuda_graphs
        self._graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, tuple[Tensor, ...]]] = {}

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the maps; see `rtmdet_runtime.backends.Backend`."""
        inputs = torch.from_numpy(images).to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        if self.cuda_graphs:
            with torch.cuda.device(self.device):
                outputs = self._replay(inputs)
        else:
            outputs = self.network(inputs)
        return [output.float().contiguous().cpu().numpy() for output in outputs]

    def _replay(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the graph that was recorded for this shape, or record it; on the current device."""
        if inputs.shape not in self._graphs:
            static = inputs.clone(memory_format=torch.channels_last)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # cuDNN chooses its kernels, Inductor compiles: neither can be recorded
                for _ in range(3):
                    self.network(static)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):  # its own is made once, on the device of the first recording
                outputs = self.network(static)
            self._graphs[inputs.shape] = graph, static, outputs
        graph, static, outputs = self._graphs[inputs.shape]
        static.copy_(inputs)
        graph.replay()
        return outputs


def RTMDetPredictor(  # named as a class: callers use it as they use `RTMDetector`
    config: str | Path | Config,
    checkpoint: str | Path,
    *,
    precision: str = 'float32',
    compile: bool = False,
    cuda_graphs: bool = False,
    device: str = 'cpu',
    size: tuple[int, int] | None = None,
    for_map: bool = False,
    score_thr: float | None = None,
    iou_thr: float | None = None,
    max_per_img: int | None = None,
    threads: int | None = None,
) -> RTMDetector:
    """Make an `RTMDetector` that computes a checkpoint with PyTorch.

    Batch norms are folded, the memory format is channels_last, and scores are computed only for those that pass the
    threshold.

    Args:
        config: mmdet config: a file, the name of a shipped one, or an object.
        checkpoint: file with the weights of the config's model.
        precision: one of `PRECISIONS`. bfloat16 on a CPU that supports it takes about half the time of float32.
        compile: compile the network with `torch.compile`. The first prediction of each input shape then takes half a
            minute or more; a CPU needs a C++ compiler.
        cuda_graphs: record the network's kernels once for each input shape, and launch them together afterwards.
        device: 'cpu', 'cuda', or 'cuda:1' and the like.
        size: (height, width) of the network's input, as in `RTMDetector`; None for the config's.
        for_map: take the thresholds of the config's `model.test_cfg`, to measure mAP, instead of the deploy preset.
        score_thr: a box needs a score above it; None for the one chosen by `for_map`, as with the next two.
        iou_thr: of NMS within a class.
        max_per_img: boxes of an image, at most.
        threads: of PyTorch on the CPU, for the whole process; None leaves it as it is.

    Raises:
        FileNotFoundError: if the config or the checkpoint isn't there.
        ValueError: see `load_model`. Also for a device that isn't there, a precision that the CPU doesn't support,
            CUDA graphs without CUDA, and a size or threshold that can't be used.
    """
    check_settings(device, precision, cuda_graphs)
    check_threads(threads)
    if threads is not None:
        torch.set_num_threads(threads)
    model = load_model(config, checkpoint)
    check_model(model)
    info = model_info(model, 'raw', None, for_map=for_map)
    network = RawForm(fold_batch_norms(model)).eval()
    backend = TorchBackend(network, info, precision, compile, cuda_graphs, device)
    return RTMDetector(backend, size=size, score_thr=score_thr, iou_thr=iou_thr, max_per_img=max_per_img)


def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for it; True where PyTorch is too old to know."""
    if not hasattr(torch.cpu, 'get_capabilities'):
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ('avx512_bf16', 'amx_bf16', 'bf16'))


def check_settings(device: str, precision: str, cuda_graphs: bool) -> None:
    """Raise a `ValueError` for a device that isn't there, and for what it can't do."""
    check_device(device)
    if precision not in PRECISIONS:
        raise ValueError(f'precision={precision!r}; accepted: {", ".join(PRECISIONS)}')
    if cuda_graphs and device == 'cpu':
        raise ValueError(f'cuda_graphs=True on device={device!r}; accepted: a CUDA device')
    if device == 'cpu' and precision == 'bfloat16' and not cpu_has_bfloat16():
        raise ValueError('precision=bfloat16, but this CPU has no instructions for it; accepted: float32')
    if device == 'cpu' and precision == 'float16':
        raise ValueError("precision=float16 on device='cpu'; accepted: float32, bfloat16")
