"""Run pnnx, the converter from ONNX to ncnn, whose wheel contains a program; weights stay in float32."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import onnx

from rtmdet_runtime.messages import needed_by


def run_pnnx(source: str | Path, folder: Path) -> tuple[Path, Path]:
    """Convert an ONNX file with one input of a fixed size.

    Args:
        source: the ONNX file.
        folder: an empty folder for the dozen files that the program writes next to its input.

    Returns:
        The `.param` and the `.bin` file, in `folder`.

    Raises:
        ImportError: if the converter isn't installed.
        RuntimeError: if it fails, with the end of its output.
    """
    with needed_by('a file for ncnn (.param)'):
        import pnnx
    (image,) = onnx.load(source, load_external_data=False).graph.input
    shape = ','.join(str(side.dim_value) for side in image.type.tensor_type.shape.dim)
    shutil.copy(source, folder / 'model.onnx')
    command = [pnnx.EXEC_PATH, 'model.onnx', f'inputshape=[{shape}]', 'fp16=0']
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    param, weights = folder / 'model.ncnn.param', folder / 'model.ncnn.bin'
    if done.returncode or not param.is_file():
        printed = ' '.join((done.stdout + done.stderr).split())[-500:]
        raise RuntimeError(f'pnnx can not convert {source}: {printed}')
    return param, weights
