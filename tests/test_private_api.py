"""The private parts of OpenMMLab and PyTorch that the package relies on: each is there, and behaves as we need.

Run this file first against a new version of the stack: a failure says what changed and who uses it. Where a public way
exists, the package takes that one, so an entry here goes as soon as there is such a way.
"""

import ast
import importlib
import inspect
import os
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import mim.cli
import mmengine.config.config as mmengine_config
import mmengine.runner.checkpoint as mmengine_checkpoint
import mmengine.runner.runner as mmengine_runner
import pytest
import torch
import torch.utils.data.dataloader as torch_dataloader
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.models import DetDataPreprocessor
from mmengine.dist import utils as dist_utils
from mmengine.hooks import CheckpointHook
from mmengine.model import ImgDataPreprocessor
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

import rtmdet_plugin_startup

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    *(path for package in ('rtmdet_plugin', 'rtmdet_cli', 'rtmdet_runtime') for path in (ROOT / package).rglob('*.py')),
    ROOT / 'rtmdet_plugin_startup.py',
]
CHECKED = {
    # mmengine
    '_accumulative_counts', '_channel_conversion', '_dataset', '_decide_current_val_interval', '_epoch',
    '_get_cfg_path', '_global_step', '_imported', '_init_dist_pytorch', '_load_checkpoint_to_model', '_load_from',
    '_locations', '_metainfo', '_non_blocking', '_ParamScheduler',
    '_resume', '_save_best_checkpoint', '_test_loop', '_train_loop', '_val_loop',
    # torch
    '_BatchNorm', '_foreach_copy_', '_foreach_lerp_', '_foreach_norm', '_iterator', '_new_shared_fd_cpu',
    '_shutdown_workers',
    # mmdeploy
    '_net',
    # Python's own
    '_exit', '_getframe', '_initializing', '_replace',
}  # fmt: skip
"""Names that are looked at below, except the documented `os._exit`, `sys._getframe` and `namedtuple._replace`."""


def private_names(path: Path) -> set[str]:
    """Names with a leading underscore that a file takes from elsewhere: imported or read, and not defined in it."""
    kinds = defaultdict(list)
    for node in ast.walk(ast.parse(path.read_text())):
        kinds[type(node)].append(node)
    of_self = {node: isinstance(node.value, ast.Name) and node.value.id == 'self' for node in kinds[ast.Attribute]}
    changed = {node.target for node in kinds[ast.AugAssign]}  # `self._epoch += 1` defines nothing
    defined = {node.name for node in (*kinds[ast.FunctionDef], *kinds[ast.ClassDef])}
    defined |= {node.attr for node in set(of_self) - changed if of_self[node] and isinstance(node.ctx, ast.Store)}
    used = {node.attr for node, own in of_self.items() if not (own and node.attr in defined)}
    for node in kinds[ast.ImportFrom]:
        if not node.level:
            used |= {*node.module.split('.'), *(alias.name for alias in node.names)}
    for node in kinds[ast.Import]:
        used |= {part for alias in node.names for part in alias.name.split('.')}
    for call in kinds[ast.Call]:
        if isinstance(call.func, ast.Name) and call.func.id == 'getattr' and isinstance(call.args[1], ast.Constant):
            used.add(call.args[1].value)
    return {name for name in used if name.startswith('_') and not name.startswith('__')}


def test_every_private_name_is_checked_here():
    """A new use of a private name needs a check in this file, and its name in `CHECKED`."""
    used = set().union(*map(private_names, FILES))
    assert used == CHECKED


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


# mmengine


def test_channel_order_of_the_preprocessor():
    """Distillation compares it between teacher and student."""
    for swapped in (True, False):
        assert ImgDataPreprocessor(bgr_to_rgb=swapped)._channel_conversion is swapped


@pytest.mark.parametrize('name', ['train', 'val', 'test'])
def test_runner_keeps_its_loops_under_private_names(name):
    """`built_loops` asks which loops exist; the properties `train_loop`, ... build the loop that isn't there yet."""
    settings = {f'_{name}_loop': dict(type='Loop'), f'build_{name}_loop': lambda config: ('built', config)}
    runner = SimpleNamespace(**settings)
    assert getattr(Runner, f'{name}_loop').fget(runner) == ('built', dict(type='Loop'))
    assert getattr(runner, f'_{name}_loop') == ('built', dict(type='Loop'))


@pytest.mark.parametrize(
    ('resume', 'load_from', 'called'),
    [(True, 'a.pth', 'resume'), (False, 'a.pth', 'load_checkpoint'), (False, None, None)],
)
def test_runner_loads_by_its_private_settings(resume, load_from, called):
    """`RTMCheckpointHook` sets `_load_from` before the Runner loads; other hooks read both."""
    runner = mock.Mock(_has_loaded=False, _resume=resume, _load_from=load_from)
    Runner.load_or_resume(runner)
    for name in ('resume', 'load_checkpoint'):
        assert getattr(runner, name).call_args_list == ([mock.call('a.pth')] if name == called else [])


def test_accumulated_batches_are_counted_under_a_private_name():
    """`RTMRunCheckHook` compares the learning rate with the images of one optimiser step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    assert OptimWrapper(optimizer, accumulative_counts=3)._accumulative_counts == 3


def test_train_loop_counts_epochs_under_a_private_name():
    """`RTMEpochBasedTrainLoop.run_epoch` ends with `_epoch += 1`, and `run` decides on the interval as mmengine's."""
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    loop._epoch, loop._max_epochs = 4, 10
    loop.dynamic_milestones, loop.dynamic_intervals, loop.val_interval = [0, 5], [10, 1], 10
    assert loop.epoch == 4
    loop._decide_current_val_interval()
    assert loop.val_interval == 1
    assert 'self._decide_current_val_interval()' in inspect.getsource(EpochBasedTrainLoop.run)


def test_slices_of_a_dataset_keep_it_under_a_private_name():
    """`wrapped_datasets` looks through what `num_batch_per_epoch` makes; it passes unknown attributes on."""
    dataset = SimpleNamespace(ann_file='a.json')
    sliced = mmengine_runner._SlicedDataset(dataset, 3)
    assert vars(sliced)['_dataset'] is dataset and len(sliced) == 3 and sliced.ann_file == 'a.json'
    assert '_SlicedDataset(' in inspect.getsource(Runner.build_dataloader)


def test_bases_of_configs_are_resolved_by_a_private_function():
    """`rtmdet_plugin_startup` adds `rtmdet_plugin::name.py`; 0.10.7 gives (path, scope) and calls it on the class."""
    resolve = mmengine_config.Config._get_cfg_path
    assert resolve('rtmdet_plugin::rtmdet_tiny.py', 'mine.py')[1] is None  # ours is in place
    assert resolve('base.py', 'folder/mine.py') == ('folder/base.py', None)
    assert 'Config._get_cfg_path(' in inspect.getsource(mmengine_config.Config._file2dict)


def test_launchers_join_through_a_private_function():
    """`compat/cpu_launcher.py` replaces it on machines without GPUs: mmengine's selects a CUDA device in any case."""
    with mock.patch.object(dist_utils, '_init_dist_pytorch') as join:
        dist_utils.init_dist('pytorch', backend='gloo')
    assert (join.call_args.args, join.call_args.kwargs) == (('gloo',), dict(init_backend='torch'))


def test_registries_import_the_places_of_a_private_list():
    """`register_packages` extends the list, so that our packages are imported with mmdet's and not before."""
    registry = Registry('private', locations=['json.tool'])
    assert (registry._locations, registry._imported) == (['json.tool'], False)
    registry._locations.append('json.scanner')
    with mock.patch('mmengine.registry.registry.import_module') as imported, mock.patch.object(registry, '_scope', 'x'):
        registry.import_from_location()
    assert [call.args for call in imported.call_args_list] == [('json.tool',), ('json.scanner',)]
    assert registry._imported


def test_checkpoints_are_saved_by_private_methods():
    """`RTMCheckpointHook` overrides both: it changes the order of writing and removing."""
    assert parameters(CheckpointHook._save_checkpoint_with_step) == ['self', 'runner', 'step', 'meta']
    assert parameters(CheckpointHook._save_best_checkpoint) == ['self', 'runner', 'metrics']
    for caller in (CheckpointHook._save_checkpoint, CheckpointHook._save_best_checkpoint):
        assert 'self._save_checkpoint_with_step(' in inspect.getsource(caller)
    assert 'self._save_best_checkpoint(' in inspect.getsource(CheckpointHook.after_val_epoch)


def test_weights_reach_a_model_through_a_private_function():
    """`checkpoints/fit_to_model.py` wraps it: the Runner and `load_checkpoint` call it by this name."""
    load = inspect.unwrap(mmengine_checkpoint._load_checkpoint_to_model)
    assert parameters(load)[:2] == ['model', 'checkpoint']
    for caller in (Runner.load_checkpoint, mmengine_checkpoint.load_checkpoint):
        assert '_load_checkpoint_to_model(' in inspect.getsource(caller)
    model = nn.Linear(2, 1)
    load(model, dict(state_dict=dict(weight=torch.zeros(1, 2), bias=torch.ones(1))))
    assert (model.weight.tolist(), model.bias.tolist()) == ([[0, 0]], [1])


def test_schedulers_ask_a_private_method_for_their_values():
    """`RTMFlatCosineLR` implements it, and counts by `_global_step`, which checkpoints hold."""

    class Halving(LRSchedulerMixin, _ParamScheduler):
        def _get_value(self):
            return [0.1 / 2**self._global_step]

    scheduler = Halving(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))
    scheduler.optimizer.step()
    scheduler.step()
    assert scheduler.get_last_value() == [0.05]
    assert {'last_step', '_global_step', '_last_value', 'base_values'} <= scheduler.state_dict().keys()


def test_datasets_keep_their_meta_information_under_a_private_name():
    """`RTMCocoDataset` adds the classes of its file; the public property gives a copy."""
    dataset = CocoDataset(lazy_init=True, metainfo=dict(classes=('cat',)))
    dataset._metainfo['classes'] = ('dog',)
    assert dataset.metainfo['classes'] == ('dog',)


def test_preprocessors_keep_their_settings_under_private_names():
    """`RTMDetDataPreprocessor` moves a batch with the same `non_blocking` as mmengine's."""
    assert DetDataPreprocessor(non_blocking=True)._non_blocking is True


# mmdet


def test_metrics_read_their_file_through_a_private_attribute():
    """`RTMCocoMetric` puts a checked file there; without a file mmdet's holds None and writes one."""
    assert CocoMetric(None)._coco_api is None


# mim


@pytest.mark.parametrize('name', ['train', 'test'])
def test_mim_starts_programs_through_the_globals_of_a_command(name):
    """`rtmdet_plugin_startup` replaces `subprocess` there; 0.3.7 executes the command's file again for each lookup."""
    command = mim.cli.MIM().get_command(None, name)
    names = command.callback.__globals__
    assert {'subprocess', 'check_call'} <= set(names[name].__code__.co_names)
    assert names['subprocess'].check_call is rtmdet_plugin_startup.call_and_wait
    assert {'config', 'package'} <= {parameter.name for parameter in command.params}


# torch


def test_loaders_ask_the_dataset_for_a_batch():
    """`fetch_by_place` sets `__getitems__` on the instance (PyTorch 2.0 and later; not in its documentation)."""
    dataset = SimpleNamespace(__getitems__=lambda indices: [10 * index for index in indices])
    loader = DataLoader(dataset, sampler=range(4), batch_size=2, collate_fn=list)
    assert list(loader) == [[0, 10], [20, 30]]


def test_loaders_keep_persistent_workers_in_a_private_iterator():
    """`restart_workers` ends them, so that the next epoch's workers get the dataset as it is then.

    `tests/engine/hooks/test_pipeline_switch.py` does it with real workers.
    """
    assert DataLoader([1, 2])._iterator is None
    assert 'self._iterator = self._get_iterator()' in inspect.getsource(DataLoader.__iter__)
    assert parameters(torch_dataloader._MultiProcessingDataLoaderIter._shutdown_workers) == ['self']


def test_functions_over_many_tensors():
    """Averaged weights, gradients' norms and BN's statistics: one call for all tensors. None of them is documented."""
    ones, twos = [torch.ones(2), torch.ones(3)], [torch.full((2,), 2.0), torch.full((3,), 2.0)]
    assert [float(norm) for norm in torch._foreach_norm(twos)] == pytest.approx([8**0.5, 12**0.5])
    torch._foreach_lerp_(ones, twos, 0.25)
    assert [tensor.tolist() for tensor in ones] == [[1.25] * 2, [1.25] * 3]
    torch._foreach_copy_(ones, twos)
    assert all(map(torch.equal, ones, twos))


def test_fused_optimisers_skip_a_step_on_request():
    """`RTMCheckInvalidLossHook` sets `found_inf`, as `GradScaler` does; on CPUs since PyTorch 2.4."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    for found, kept in ((1.0, True), (0.0, False)):
        weight.grad = torch.ones(1)
        optimizer.found_inf = torch.tensor(found)
        optimizer.step()
        assert (weight.item() == 1) == kept


def test_batch_norms_have_a_private_base():
    """Folding, unfolding, freezing and the report look for any batch norm; there is no public base class."""
    for norm in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
        assert issubclass(norm, _BatchNorm)
    assert not issubclass(nn.GroupNorm, _BatchNorm)


@pytest.mark.skipif(not hasattr(os, 'memfd_create'), reason='files in memory are only on Linux')
def test_open_files_become_shared_storages():
    """`rtm_collate` writes a batch to a file in memory; PyTorch's queues rebuild tensors by the same function."""
    with open(os.memfd_create('test'), 'wb') as file:
        file.write(bytes(range(5)))
        file.flush()
        storage = torch.UntypedStorage._new_shared_fd_cpu(file.fileno(), 5)
    assert storage.tolist() == [0, 1, 2, 3, 4] and storage.is_shared()


def test_types_in_a_traced_graph():
    """`EfficientNMS.symbolic` gives the node's outputs their shapes and types."""
    graph = torch.jit.trace(lambda x: x + 1, torch.ones(2, 3)).inlined_graph
    kind = next(iter(graph.inputs())).type()
    assert kind.varyingSizes() == [2, 3]
    changed = kind.with_dtype(torch.int32).with_sizes([2, 5])
    assert (changed.sizes(), changed.dtype()) == ([2, 5], torch.int32)


# mmdeploy


def test_mmdeploy_keeps_ncnn_s_network_under_a_private_name():
    """`RTMNCNNWrapper` sets its number of threads, for which the wrapper has no argument."""
    pytest.importorskip('mmdeploy', reason='mmdeploy is not installed')
    ncnn = pytest.importorskip('ncnn', reason='ncnn is not installed')
    from mmdeploy.backend.ncnn.wrapper import NCNNWrapper

    assert 'self._net = net' in inspect.getsource(NCNNWrapper.__init__)
    ncnn.Net().opt.num_threads = 1


# Python


def test_modules_that_are_being_imported_have_a_mark(tmp_path, monkeypatch):
    """`rtmdet_plugin_startup.install` leaves a half-loaded module to its finder; without the mark it takes it now."""
    (tmp_path / 'half_loaded_module.py').write_text('seen = __spec__._initializing')
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module('half_loaded_module')
    assert (module.seen, module.__spec__._initializing) == (True, False)
