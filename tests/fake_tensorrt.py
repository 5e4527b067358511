"""Stand-ins for `tensorrt` and `cuda.bindings.runtime`, for machines without an NVIDIA GPU.

They do what the documentation of TensorRT 10 and 11 and of cuda-bindings says, as far as the package asks for it: an
engine is an ONNX graph with its profile, computed by ONNX Runtime; work on a stream is done when one waits for it;
memory of the GPU is reached by copies alone; what is forgotten or out of range is an error. So they show that the
package keeps to the API, and nothing of what TensorRT makes of a graph.
"""

import ctypes
import enum
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort

from rtmdet_runtime.postprocess import class_wise_nms, select_candidates

VERSION = '11.0'
FLOAT, INT32, INT64 = 'DataType.FLOAT', 'DataType.INT32', 'DataType.INT64'


class Cuda:
    """Fake `cuda.bindings.runtime`, whose functions return their error code and results."""

    cudaError_t = enum.Enum('cudaError_t', dict(cudaSuccess=0, cudaErrorInvalidValue=1, cudaErrorNoDevice=100))
    cudaMemcpyKind = enum.Enum('cudaMemcpyKind', dict(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2))

    def __init__(self) -> None:
        self.device = True
        self.memory: dict[int, bytearray] = {}
        self.queues: dict[int, list] = {}

    def _done(self, *results):
        return (self.cudaError_t.cudaSuccess if self.device else self.cudaError_t.cudaErrorNoDevice, *results)

    def cudaGetErrorString(self, error):
        return self.cudaError_t.cudaSuccess, f'no CUDA-capable device is detected ({error.name})'.encode()

    def cudaStreamCreate(self):
        stream = 7000 + len(self.queues)
        self.queues[stream] = []
        return self._done(stream)

    def cudaStreamDestroy(self, stream):
        del self.queues[stream]
        return self._done()

    def cudaMalloc(self, size: int):
        pointer = 512 * (1 + len(self.memory))
        self.memory[pointer] = bytearray(size)
        return self._done(pointer)

    def cudaFree(self, pointer: int):
        del self.memory[pointer]
        return self._done()

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind, stream: int):
        to_device = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        if size > len(self.memory[target if to_device else source]):
            return (self.cudaError_t.cudaErrorInvalidValue,)
        if to_device:  # from memory that isn't page-locked: CUDA copies it at once
            content = ctypes.string_at(source, size)
            self.queues[stream].append(lambda: self.write(target, content))
        else:
            self.queues[stream].append(lambda: ctypes.memmove(target, bytes(self.memory[source][:size]), size))
        return self._done()

    def cudaStreamSynchronize(self, stream: int):
        while self.queues[stream]:
            self.queues[stream].pop(0)()
        return self._done()

    def write(self, pointer: int, content: bytes) -> None:
        assert len(content) <= len(self.memory[pointer]), 'written beyond the memory that was allocated'
        self.memory[pointer][: len(content)] = content


class Network:
    """Run a graph in ONNX Runtime; the NMS of `rtmdet_runtime` replaces the plugin `EfficientNMS_TRT`."""

    def __init__(self, content: bytes) -> None:
        self.model = onnx.load_from_string(content)
        self.input = self.model.graph.input[0].name
        self.outputs = [output.name for output in self.model.graph.output]
        plugins = [node for node in self.model.graph.node if node.domain == 'TRT']
        self.plugin = {a.name: onnx.helper.get_attribute_value(a) for node in plugins for a in node.attribute}
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for node in plugins:
            model.graph.node.remove(node)
            del model.graph.output[:]
            model.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in node.input)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])

    @property
    def shape(self) -> tuple[int, ...]:
        dims = self.model.graph.input[0].type.tensor_type.shape.dim
        return tuple(-1 if dim.dim_param else dim.dim_value for dim in dims)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        values = self.session.run(None, {self.input: images})
        return dict(zip(self.outputs, self._nms(*values) if self.plugin else values, strict=True))

    def _nms(self, boxes: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
        batch, k = len(boxes), self.plugin['max_output_boxes']
        outputs = [
            np.zeros((batch, *shape), kind)
            for shape, kind in (((1,), np.int32), ((k, 4), np.float32), ((k,), np.float32), ((k,), np.int32))
        ]
        for i in range(batch):
            candidates = select_candidates(boxes[i], scores[i], self.plugin['score_threshold'])[:3]
            found = class_wise_nms(candidates, self.plugin['iou_threshold'], 4096, k)
            outputs[0][i] = len(found[1])
            for output, values in zip(outputs[1:], found, strict=True):
                output[i, : len(values)] = values
        return outputs


class Engine:
    """Fake `ICudaEngine` and its `IExecutionContext`, of which there is never more than one."""

    def __init__(self, network: Network, profile: list | None, cuda: Cuda) -> None:
        self.network, self.cuda = network, cuda
        self.profile = profile or [network.shape] * 3
        self.given = None if -1 in network.shape else network.shape
        self.addresses: dict[str, int] = {}
        self.shapes: dict[tuple, dict] = {}
        self.num_io_tensors = 1 + len(network.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*reversed(self.network.outputs), self.network.input][index]  # the API promises no order

    def get_tensor_dtype(self, name: str) -> str:
        values = (*self.network.model.graph.input, *self.network.model.graph.output)
        kind = next(value.type.tensor_type.elem_type for value in values if value.name == name)
        return {onnx.TensorProto.FLOAT: FLOAT, onnx.TensorProto.INT32: INT32, onnx.TensorProto.INT64: INT64}[kind]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list:
        assert (name, profile) == (self.network.input, 0)
        return self.profile

    def create_execution_context(self) -> 'Engine':
        return self

    def set_input_shape(self, name: str, shape: tuple) -> bool:
        assert name == self.network.input
        low, _, high = self.profile
        fits = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        self.given = tuple(shape) if fits else self.given
        return fits

    def get_tensor_shape(self, name: str) -> tuple:
        if name == self.network.input:
            return self.given or self.network.shape
        if self.given not in self.shapes:
            outputs = self.network.run(np.zeros(self.given, np.float32))
            self.shapes[self.given] = {key: value.shape for key, value in outputs.items()}
        return self.shapes[self.given][name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if set(self.addresses) != {self.network.input, *self.network.outputs} or self.given is None:
            return False
        shape = self.given

        def work() -> None:
            content = self.cuda.memory[self.addresses[self.network.input]]
            images = np.frombuffer(bytes(content), np.float32, int(np.prod(shape))).reshape(shape)
            for name, value in self.network.run(images).items():
                self.cuda.write(self.addresses[name], value.tobytes())

        self.cuda.queues[stream_handle].append(work)
        return True


def serialize(content: bytes, profile: list | None, version: str = VERSION) -> bytes:
    """Return the content of an engine file for a version of TensorRT, with the shapes of its profile."""
    return json.dumps(dict(version=version, profile=profile)).encode() + b'\n' + content


class Builder:
    """`Builder`, `INetworkDefinition`, `OnnxParser` and `IBuilderConfig` in one; `said` contains the settings."""

    def __init__(self, said: dict) -> None:
        self.said = said

    def create_network(self, flags: int) -> 'Builder':
        self.said['flags'] = flags
        return self

    def parse(self, content: bytes) -> bool:
        self.content = content
        self.network = Network(content)
        return True

    def create_builder_config(self) -> 'Builder':
        return self

    def clear_flag(self, flag: str) -> None:
        self.said['cleared'] = flag

    def create_optimization_profile(self) -> 'Builder':
        return self

    def set_shape(self, name: str, smallest: tuple, usual: tuple, largest: tuple) -> None:
        assert name == self.network.input
        self.profile = [smallest, usual, largest]

    def add_optimization_profile(self, profile: 'Builder') -> None:
        self.said['profile'] = profile.profile

    def create_timing_cache(self, content: bytes) -> SimpleNamespace:
        self.said['timing_cache'] = content
        return SimpleNamespace(serialize=lambda: content + b'timed')

    def set_timing_cache(self, cache: SimpleNamespace, ignore_mismatch: bool) -> None:
        self.get_timing_cache = lambda: cache

    def build_serialized_network(self, network: 'Builder', config: 'Builder') -> bytes | None:
        if -1 in self.network.shape and 'profile' not in self.said:
            return None
        return serialize(self.content, self.said.get('profile'))


def install(monkeypatch) -> tuple[ModuleType, Cuda]:
    """Replace the two modules with the fakes for one test."""
    cuda, trt = Cuda(), ModuleType('tensorrt')
    trt.__spec__ = ModuleSpec('tensorrt', None)
    trt.__version__, trt.said = VERSION, {}

    def started(result):
        if not cuda.device:
            raise TypeError('pybind11::init(): factory function returned nullptr')
        return result

    def deserialize(content: bytes) -> Engine | None:
        header, _, graph = content.partition(b'\n')
        if not header.startswith(b'{') or json.loads(header)['version'] != VERSION:
            return None
        return Engine(Network(graph), json.loads(header)['profile'], cuda)

    class Logger:
        WARNING, ERROR = 'WARNING', 'ERROR'

        def __init__(self, severity: str) -> None:
            self.severity = severity

    def parser(network: Builder, logger: Logger) -> Builder:
        if 'plugins' not in trt.said:
            raise AssertionError('the plugins have to be known before a graph is parsed')
        return network

    trt.Logger = Logger
    trt.init_libnvinfer_plugins = lambda logger, namespace: trt.said.update(plugins=namespace)
    trt.NetworkDefinitionCreationFlag = enum.IntEnum('NetworkDefinitionCreationFlag', dict(STRONGLY_TYPED=1))
    trt.BuilderFlag = SimpleNamespace(TF32='TF32')  # TensorRT 11 has no flags for precisions
    trt.Builder = lambda logger: started(Builder(trt.said))
    trt.OnnxParser = parser
    trt.Runtime = lambda logger: started(SimpleNamespace(deserialize_cuda_engine=deserialize))
    trt.nptype = {FLOAT: np.float32, INT32: np.int32, INT64: np.int64}.__getitem__
    bindings = ModuleType('cuda.bindings')
    bindings.runtime = cuda
    for name, module in (('tensorrt', trt), ('cuda', ModuleType('cuda')), ('cuda.bindings', bindings)):
        monkeypatch.setitem(sys.modules, name, module)
    # The test imports the backend again; setting it first lets monkeypatch remove it after the test.
    monkeypatch.setitem(sys.modules, 'rtmdet_runtime.backends.tensorrt', None)
    del sys.modules['rtmdet_runtime.backends.tensorrt']
    return trt, cuda
