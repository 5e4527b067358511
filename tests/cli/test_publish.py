"""`rtmdet publish` on a file as mmengine writes it."""

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from rtmdet_cli.publish import command


def test_says_what_it_wrote(tmp_path):
    pytest.importorskip('safetensors')
    state = nn.Linear(2, 3).state_dict()
    torch.save(dict(state_dict=state, ema_state_dict=state, optimizer=torch.zeros(10**6)), tmp_path / 'epoch_3.pth')
    done = CliRunner().invoke(command, [str(tmp_path / 'epoch_3.pth')], catch_exceptions=False)
    assert done.exit_code == 0
    assert f'{tmp_path}/epoch_3.safetensors: 2 tensors, averaged weights, 0.0 MB' in done.output
    assert (tmp_path / 'epoch_3.safetensors').is_file()


def test_another_name(tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / 'x.pth')
    done = CliRunner().invoke(command, [str(tmp_path / 'x.pth'), '--out', str(tmp_path / 'cats.pth')])
    assert 'cats.pth: 2 tensors, weights' in done.output and (tmp_path / 'cats.pth').is_file()
