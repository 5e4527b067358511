"""The stand-in for `mmcv._ext`, with the compiled module absent and present, in fresh interpreters."""

import importlib.util
import inspect
import os
import subprocess
import sys
import types

import pytest
from compiled_mmcv import compiled, lite_only

from rtmdet_plugin.compat import mmcv_ext


def run(code: str, *flags: str, **environment) -> str:
    done = subprocess.run(
        [sys.executable, *flags, '-c', code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@lite_only
def test_has_a_spec_that_mmengine_finds():
    from mmengine.utils.dl_utils import mmcv_full_available

    spec = importlib.util.find_spec('mmcv._ext')
    assert spec.name == 'mmcv._ext' and spec.loader is not None
    assert mmcv_full_available()


@lite_only
def test_mmcv_ops_runs_our_nms():
    module = importlib.import_module('mmcv.ops.nms')
    assert module.ext_module.nms is mmcv_ext.STAND_INS['nms']


@lite_only
def test_another_op_says_what_to_install():
    import torch
    from mmcv.ops import roi_align

    with pytest.raises(mmcv_ext.MissingOpError, match=r"'roi_align_forward' needs compiled mmcv.*mmcv==2\.1\.0"):
        roi_align(torch.rand(1, 1, 8, 8), torch.tensor([[0.0, 0, 0, 4, 4]]), 2)


@lite_only
def test_so_does_soft_nms():
    import torch
    from mmcv.ops import soft_nms

    with pytest.raises(mmcv_ext.MissingOpError, match=r"'softnms' needs compiled mmcv.*has nms only"):
        soft_nms(torch.tensor([[0.0, 0, 4, 4]]), torch.ones(1))


@lite_only
def test_special_attributes_are_absent():
    module = importlib.import_module('mmcv._ext')
    assert not hasattr(module, '__wrapped__')
    assert inspect.unwrap(module) is module


@pytest.mark.parametrize(
    'first',
    ['', *(pytest.param(f'import {name}', marks=pytest.mark.slow) for name in ('rtmdet_plugin', 'mmdet.utils'))],
)
def test_mmdet_imports_in_any_order(first):
    """Includes the case in which importing mmdet's models imports the plugin halfway through."""
    code = f'{first}\nfrom rtmdet_plugin_startup import install; install()\nimport mmdet.models, rtmdet_plugin'
    run(code + '\nfrom mmdet.registry import MODELS; MODELS.get("RTMDet").__name__')


def test_a_compiled_module_wins(tmp_path):
    """If a module `mmcv._ext` is on mmcv's path, the stand-in isn't used."""
    code = f"""
import mmcv, rtmdet_plugin
mmcv.__path__.append({str(tmp_path)!r})
import importlib.util
assert importlib.util.find_spec('mmcv._ext').origin.startswith({str(tmp_path)!r})
import mmcv.ops, sys
print(sys.modules['mmcv.ops.nms'].ext_module.nms('boxes'))
"""
    (tmp_path / '_ext.py').write_text('def __getattr__(name):\n    return lambda *a, **k: f"compiled {name}"\n')
    if compiled():
        pytest.skip('the real one is installed')
    assert run(code) == 'compiled nms'


def test_fill_gives_real_ops_and_refusals():
    module = types.ModuleType('mmcv._ext')
    mmcv_ext.fill(module)
    assert module.nms is mmcv_ext.STAND_INS['nms']
    assert module.deform_conv_forward.__name__ == 'deform_conv_forward'
    with pytest.raises(NotImplementedError, match='deform_conv_forward'):
        module.deform_conv_forward(1, key=2)
