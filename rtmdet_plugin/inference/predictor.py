"""Run a checkpoint in PyTorch, as a backend of `rtmdet_runtime`'s detector, with a folded and optimised network."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from rtmdet_runtime import ModelInfo, RTMDetector
from rtmdet_runtime.backends import check_threads, streams_of
from rtmdet_runtime.backends.pytorch import PUBLISHED
from rtmdet_runtime.choices import TORCH_PRECISIONS

from ..checkpoints.load_model import load_model
from ..checkpoints.published import published_weights
from ..export.forms import RawForm
from ..export.metadata import model_info
from ..export.onnx_export import check_model, maps_of
from .device import check_device, device_type

PRECISIONS = {name: getattr(torch, name) for name in TORCH_PRECISIONS}


class TorchBackend:
    """Run a network in PyTorch, in the export format `raw`; see `rtmdet_runtime.backends.Backend`.

    Args:
        network: module on the CPU that computes the maps of normalised images.
        info: metadata of the network.
        precision: one of `PRECISIONS`.
        compile: compile the network with `torch.compile`.
        cuda_graphs: record the kernels once for each input shape, and launch them together afterwards.
        device: 'cpu', 'cuda', or 'cuda:1' and the like.
        threads: number of PyTorch's CPU threads, set for the entire process at each call; None doesn't change it.

    Attributes:
        threads_of_call: number of CPU threads if several calls run at a time; None if there is only one.
    """

    batch: int | None = None
    size: tuple[int, int] | None = None

    def __init__(
        self,
        network: nn.Module,
        info: ModelInfo,
        precision: str,
        compile: bool,
        cuda_graphs: bool,
        device: str,
        threads: int | None = None,
    ) -> None:
        self.info, self.precision, self.threads = info, precision, threads
        self.threads_of_call: int | None = None
        self._prepared = threading.local()
        # A GPU has work for all of its cores in one call, and compiled code has a fixed number of threads.
        self._one_call = device != 'cpu' or compile
        self.dtype, self.device = PRECISIONS[precision], torch.device(device)
        self.network = network.to(  # pyright: ignore[reportCallIssue]  # torch's overloads lack `memory_format`
            self.device, self.dtype, memory_format=torch.channels_last
        )
        if compile:
            # Weights become constants: oneDNN arranges them once instead of at each call.
            self.network = torch.compile(self.network, options=dict(freezing=True))
        self.cuda_graphs = cuda_graphs
        self._graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, tuple[Tensor, ...]]] = {}

    @property
    def streams(self) -> int:
        """Number of calls at a time, see `rtmdet_runtime.backends.Streaming`."""
        return self._streams_and_threads[0]

    def for_streams(self) -> TorchBackend:
        """Return a backend for several calls at a time, with the same network; see `Streaming`."""
        backend = copy.copy(self)
        backend.threads, backend.threads_of_call = None, self._streams_and_threads[1]
        return backend

    @property
    def _streams_and_threads(self) -> tuple[int, int]:
        """The number of calls at a time, and the number of threads of each."""
        return streams_of(1 if self._one_call else self.threads or torch.get_num_threads())

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the maps; see `rtmdet_runtime.backends.Backend`."""
        if self.threads_of_call is not None and not hasattr(self._prepared, 'threads'):
            self._prepared.threads = self.threads_of_call
            use_threads_here(self.threads_of_call)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        inputs = torch.from_numpy(images).to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        return [output.float().contiguous().cpu().numpy() for output in self.compute(inputs)]

    @torch.inference_mode()
    def compute(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of images that are on the device already.

        Args:
            inputs: normalised, of the backend's type, channels_last. (B, 3, H, W)
        """
        if not self.cuda_graphs:
            return self.network(inputs)
        with torch.cuda.device(self.device):
            return self._replay(inputs)

    def _replay(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the graph that was recorded for this shape, or record it; on the current device."""
        if inputs.shape not in self._graphs:
            static = inputs.clone(memory_format=torch.channels_last)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # cuDNN selects its kernels and Inductor compiles; neither can be recorded
                for _ in range(3):
                    self.network(static)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Without `stream`, PyTorch records on a stream of its own, which is on the device of the first recording.
            with torch.cuda.graph(graph, stream=stream):
                outputs = self.network(static)
            self._graphs[inputs.shape] = graph, static, outputs
        graph, static, outputs = self._graphs[inputs.shape]
        static.copy_(inputs)
        graph.replay()
        return outputs


_THREADS = threading.Lock()


def use_threads_here(count: int) -> None:
    """Let PyTorch use this number of CPU threads in the calling thread, and as before in all others.

    `torch.set_num_threads` also sets the number of threads that start later, which another thread sets back.
    """
    with _THREADS:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        other = threading.Thread(target=torch.set_num_threads, args=[before])
        other.start()
        other.join()


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
    """Return an `RTMDetector` that runs a checkpoint in PyTorch.

    Batch norms are folded, the memory format is channels_last, and scores are computed only for logits above the
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
        for_map: use the thresholds of the config's `model.test_cfg`, to measure mAP, instead of the deploy preset.
        score_thr: minimum score of a box, exclusive; None for the one that `for_map` selects, as for the next two.
        iou_thr: IoU threshold of the NMS within a class.
        max_per_img: maximum number of boxes per image.
        threads: number of PyTorch's CPU threads, set for the entire process at each prediction; None doesn't change it.

    Raises:
        FileNotFoundError: if the config or the checkpoint doesn't exist.
        ValueError: see `load_model`; also if the device isn't available, the CPU doesn't support the precision, CUDA
            graphs are used without CUDA, or the size or a threshold is invalid.
    """
    backend = load_backend(config, checkpoint, precision, compile, cuda_graphs, device, for_map, threads)
    return RTMDetector(backend, size=size, score_thr=score_thr, iou_thr=iou_thr, max_per_img=max_per_img)


def load_backend(
    config: str | Path | Config | None,
    checkpoint: str | Path,
    precision: str,
    compile: bool,
    cuda_graphs: bool,
    device: str,
    for_map: bool,
    threads: int | None,
) -> TorchBackend:
    """Load a checkpoint, fold its batch norms, and return its backend; see `RTMDetPredictor` and `load_model`."""
    check_settings(device, precision, cuda_graphs)
    check_threads(threads)
    model = load_model(config, checkpoint)
    check_model(model)
    info = model_info(model, 'raw', None, for_map=for_map)
    network = RawForm(maps_of(model)).eval()
    return TorchBackend(network, info, precision, compile, cuda_graphs, device, threads)


def open_checkpoint(
    model: str, config: str | Path | Config | None, device: str | None, threads: int | None, precision: str
) -> TorchBackend:
    """Open a checkpoint, or published weights by the name of their config, for `rtmdet_runtime.RTMDetector`.

    Args:
        model: file (.pth, .safetensors), or a name of `PUBLISHED`.
        config: see `load_model`; None for that of the checkpoint.
        device: 'cpu', 'cuda', or 'cuda:1' and the like; None for CUDA if PyTorch sees it.
        threads: see `RTMDetPredictor`.
        precision: 'auto' (float32) or one of `PRECISIONS`.

    Raises:
        RefusedError: if published weights are neither on this machine nor can be downloaded.
        FileNotFoundError, ValueError: see `RTMDetPredictor`.
    """
    device = device or device_type()
    precision = 'float32' if precision == 'auto' else precision
    check_settings(device, precision, cuda_graphs=False)
    if model in PUBLISHED:
        model = str(published_weights(PUBLISHED[model], 'or give a file'))
    return load_backend(config, model, precision, False, False, device, False, threads)


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16; True if PyTorch is too old to know."""
    if not hasattr(torch.cpu, 'get_capabilities'):
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ('avx512_bf16', 'amx_bf16', 'bf16'))


def check_settings(device: str, precision: str, cuda_graphs: bool) -> None:
    """Raise a `ValueError` if a device isn't available or doesn't support the settings."""
    check_device(device)
    if precision not in PRECISIONS:
        raise ValueError(f'precision must be one of {", ".join(PRECISIONS)}, got {precision!r}')
    if cuda_graphs and device == 'cpu':
        raise ValueError(f'device must be a CUDA device for cuda_graphs=True, got {device!r}')
    if device == 'cpu' and precision == 'bfloat16' and not cpu_has_bfloat16():
        raise ValueError('precision must be float32 on this CPU, which has no bfloat16 instructions, got bfloat16')
    if device == 'cpu' and precision == 'float16':
        raise ValueError("precision must be float32 or bfloat16 on device='cpu', got float16")
