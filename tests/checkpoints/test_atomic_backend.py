"""mmengine's backend with atomic writes."""

import faults
import pytest
from mmengine.fileio import get_file_backend

from rtmdet_plugin.checkpoints.atomic_backend import ATOMIC


def test_mmengine_finds_the_backend_by_name(tmp_path):
    path = tmp_path / 'x.pth'
    path.write_bytes(b'old')
    backend = get_file_backend(str(path), backend_args=ATOMIC)
    with pytest.MonkeyPatch.context() as patch:
        faults.Faults(patch, faults.disk_full, 2)
        with pytest.raises(OSError, match='No space left'):
            backend.put(b'new', str(path))
    assert path.read_bytes() == b'old'
    backend.put(b'new', str(path))
    assert path.read_bytes() == b'new'
