"""The commands and Python blocks of the README and of the quick start run as they are written.

Each page has a temporary folder, in which the files lie that it names. Configs of the shipped sizes are replaced by the
small one of the demo, which has weights that find something in the image; `test_end_to_end.py` trains with a real one.
"""

import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from samples import SHAPES_CONFIG
from user_commands import run_line
from user_run import ROOT, write_user_data

from rtmdet_plugin.checkpoints.published import ADDRESSES

STAND_IN = f"""
_base_ = '{SHAPES_CONFIG}'
train_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1), pipeline_switch=dict(num_last_epochs=0))
"""
"""Of a page's config: the demo's, for one short epoch."""

MORE_ARGUMENTS = {
    'mim train mmdet cats.py': 'train_cfg.max_epochs=1',  # the line ends with --cfg-options
    'mim train mmdet configs/rtmdet_s.py --resume': '--cfg-options train_cfg.max_epochs=2',
    'rtmdet benchmark': '--rounds 1',
    'rtmdet train': '--dry-run',  # tests/training trains
}
"""Beginning of a line: arguments that make it short."""

CANNOT_RUN: dict[str, str] = {}
"""Line: reason. `make` and `pip` lines don't run either: their targets and extras are looked up."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the code blocks of a page in their order: language, '' for an indented block, and text."""
    found = re.finditer(
        r'^```(\w*)\n(.*?)^```|((?:^    \S[^\n]*\n)+)', page.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    return [('', match[3]) if match[3] else (match[1], match[2]) for match in found]


@pytest.fixture
def folder(shapes, shape_images, shapes_checkpoint, shapes_model, shapes_config, tmp_path, monkeypatch) -> Path:
    """The working folder, with everything that the pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('RTMDET_DEMO_DATA', str(shapes))
    Path('configs').mkdir()
    for size in ('tiny', 's'):
        (tmp_path / 'configs' / f'rtmdet_{size}.py').write_text(STAND_IN)
    meta = dict(dataset_meta=shapes_model.dataset_meta, cfg=shapes_config().pretty_text)
    torch.save(dict(state_dict=shapes_model.state_dict(), meta=meta), 'rtmdet_s.pth')
    monkeypatch.setenv('RTMDET_HOME', str(tmp_path))
    shutil.copy('rtmdet_s.pth', ADDRESSES['s'].rpartition('/')[2])
    run_line('rtmdet convert rtmdet_s.pth rtmdet_s_mmyolo.pth --to mmyolo')
    shutil.copy(shapes_checkpoint, 'rtmdet_tiny_8xb32-300e_coco_20220902_112414-78e30dcc.pth')
    cv2.imwrite('street.jpg', cv2.imread(str(shape_images[1])))
    Path('images').mkdir()
    for image in shape_images[:2]:
        shutil.copy(image, 'images')
    cats = tmp_path / 'data' / 'cats'
    cats.mkdir(parents=True)
    write_user_data(cats)
    (cats / 'img').rename(cats / 'images')
    # Two classes of the model, which `rtmdet val` looks for by name.
    content = (cats / 'boxes.json').read_text().replace('"blue"', '"circle"').replace('"red"', '"square"')
    for split in ('train', 'val'):
        (cats / f'{split}.json').write_text(content)
    (cats / 'boxes.json').unlink()
    return tmp_path


def run_python(code: str) -> None:
    """Run a block; if it begins with the name of a file, write it to this file."""
    if name := re.match(r'# (\S+\.py)\n', code):
        Path(name[1]).write_text(code)
        return
    names: dict = {}
    exec(compile(code, 'block', 'exec'), names)
    if 'found' in names:
        assert len(names['found'].boxes) > 0, 'the weights find nothing in street.jpg'


def run_shell(code: str) -> None:
    """Run a block line by line."""
    for line in code.replace('\\\n', ' ').splitlines():
        line = ' '.join(line.split())
        if line in CANNOT_RUN:
            continue
        if 'epoch_300.pth' in line:
            shutil.copy('work_dirs/rtmdet_s/epoch_2.pth', 'work_dirs/rtmdet_s/epoch_300.pth')
        extra = [arguments for start, arguments in MORE_ARGUMENTS.items() if line.startswith(start)]
        run_line(line, *extra)


@pytest.mark.parametrize('page', ['README.md', pytest.param('docs/quick_start.md', marks=pytest.mark.slow)])
def test_blocks_run_as_written(page, folder):
    for language, code in blocks(ROOT / page):
        for name in re.findall(r'(?:rtmdet_plugin::|configs/)(rtmdet_\w+\.py)', code):
            assert (ROOT / 'configs' / name).is_file(), name
        code = code.replace('rtmdet_plugin::', 'configs/')
        assert language in ('', 'python', 'bash', 'console', 'shell'), f'{language}: how does a test run it?'
        (run_python if language == 'python' else run_shell)(code)


def test_lines_that_cannot_run_are_on_the_pages():
    text = (ROOT / 'README.md').read_text() + (ROOT / 'docs' / 'quick_start.md').read_text()
    assert all(line in text and reason for line, reason in CANNOT_RUN.items())
