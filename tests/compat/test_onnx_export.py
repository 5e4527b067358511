"""The exporter's default is changed within the context only."""

import pytest
import torch

from rtmdet_plugin.compat.onnx_export import legacy_onnx_export


def stand_in(default: bool):
    def export(model, *, dynamo=default):
        return dynamo

    return export


def test_default_is_off_within_and_on_after(monkeypatch):
    monkeypatch.setattr(torch.onnx, 'export', original := stand_in(True))
    with legacy_onnx_export():
        assert torch.onnx.export('model') is False
        assert torch.onnx.export('model', dynamo=True) is True, 'an explicit choice stays'
    assert torch.onnx.export is original


def test_put_back_after_an_error(monkeypatch):
    monkeypatch.setattr(torch.onnx, 'export', original := stand_in(True))
    with pytest.raises(KeyError), legacy_onnx_export():
        raise KeyError
    assert torch.onnx.export is original


@pytest.mark.parametrize('original', [stand_in(False), lambda model: model], ids=['off', 'no argument'])
def test_nothing_happens_without_the_gap(monkeypatch, original):
    monkeypatch.setattr(torch.onnx, 'export', original)
    with legacy_onnx_export():
        assert torch.onnx.export is original


def test_real_export_goes_through_torchscript(tmp_path):
    pytest.importorskip('onnx')
    with legacy_onnx_export():
        torch.onnx.export(torch.nn.ReLU(), (torch.ones(1, 2),), str(tmp_path / 'relu.onnx'), opset_version=11)
    import onnx

    assert [node.op_type for node in onnx.load(tmp_path / 'relu.onnx').graph.node] == ['Relu']
