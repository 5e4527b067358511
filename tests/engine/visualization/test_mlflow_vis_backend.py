import sys
from types import SimpleNamespace

import pytest
from mmdet.registry import VISBACKENDS

from rtmdet_plugin.engine.visualization.mlflow_vis_backend import VARIABLE


def test_the_server_is_that_of_the_environment(tmp_path, monkeypatch):
    called = []
    server = SimpleNamespace(
        set_tracking_uri=lambda uri: called.append(uri),
        get_experiment_by_name=lambda name: name,
        set_experiment=lambda name: called.append(name),
    )
    monkeypatch.setitem(sys.modules, 'mlflow', server)
    monkeypatch.setenv(VARIABLE, 'http://me:secret@127.0.0.1:5000')
    config = dict(type='RTMMLflowVisBackend', save_dir=str(tmp_path), exp_name='pets')
    assert VISBACKENDS.build(config).experiment is server
    assert called == ['http://me:secret@127.0.0.1:5000', 'pets']


def test_without_a_server_the_variable_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f'{VARIABLE} must be the address of an MLflow server, got none'):
        VISBACKENDS.build(dict(type='RTMMLflowVisBackend', save_dir=str(tmp_path)))
