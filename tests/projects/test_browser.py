"""The page of projects/browser in headless Chromium: its boxes are those of `RTMDetector`; no error in the console.

The images are PNG, because browsers and OpenCV decode JPEG with different rounding.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.drawing import label_colour

PROJECT = Path(__file__).parents[2] / 'projects' / 'browser'
BROWSER = next((path for name in ('chromium', 'chromium-browser', 'google-chrome') if (path := shutil.which(name))), '')
FORMS = ('raw', 'decoded')
BAD = {
    'no image.png': 'no image.png must be an image that the browser can read.',
    'no model.onnx': 'The model must be an ONNX file that `rtmdet export` wrote, got no metadata of it.',
}
"""Files that are neither, and what the page says."""
WIDTH = 390
SCALES = (1, 1, 3.3, 1, 5)  # where an image is shrunk most, methods of resizing differ most
USE = """
const frame = document.querySelector('iframe');
const part = (id) => frame.contentDocument.getElementById(id);
const until = async (isDone) => { while (!isDone()) await new Promise((wake) => setTimeout(wake, 20)); };
const answered = () => until(() => /^\\d+ objects? in|must be/.test(part('status').textContent));

async function use(form, images) {
  frame.src = `page/index.html?model=../${form}.onnx`;
  await until(() => part('status')?.textContent.startsWith(`${form}.onnx: `));
  const found = {};
  for (const name of images) {
    const files = new DataTransfer();
    files.items.add(new File([await (await fetch(name)).blob()], name));
    part('status').textContent = '';
    if (form === 'raw') {
      part('image').files = files.files;
      part('image').dispatchEvent(new Event('change'));
    } else {
      frame.contentWindow.dispatchEvent(new DragEvent('drop', { dataTransfer: files }));
    }
    await answered();
    const rows = [...part('rows').rows].map((row) => [...row.cells].map((cell) => cell.textContent));
    const colours = [...part('rows').rows].map((row) => getComputedStyle(row.cells[0]).borderLeftColor);
    found[name] = { rows, colours, status: part('status').textContent };
  }
  return found;
}

async function useCamera() {
  part('status').textContent = '';
  part('camera').click();
  await answered();
  const [width, pressed] = [part('canvas').width, part('camera').getAttribute('aria-pressed')];
  part('camera').click();
  await until(() => part('camera').getAttribute('aria-pressed') === 'false');
  return { width, pressed, scroll: frame.contentDocument.documentElement.scrollWidth };
}

const raw = await use('raw', IMAGES);
const decoded = await use('decoded', IMAGES.slice(0, 4));
const found = { raw, decoded, camera: await useCamera() };
await fetch('found', { method: 'POST', body: JSON.stringify(found) });
"""


class Handler(SimpleHTTPRequestHandler):
    """Send the files of a folder, and keep what the page posts."""

    def do_POST(self):  # noqa: N802
        self.server.found = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        self.send_response(204)
        self.end_headers()
        self.server.done.set()

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope='module')
def folder(shapes_model, shape_images, tmp_path_factory) -> Path:
    """The page, two exported models, ten images, and the files of `BAD`."""
    if not BROWSER:
        pytest.skip('no Chromium in PATH')
    if not (PROJECT / 'node_modules' / 'onnxruntime-web').is_dir():
        pytest.skip('onnxruntime-web is not installed: run make browser')
    folder = tmp_path_factory.mktemp('browser')
    for form in FORMS:
        export_onnx(shapes_model, folder / f'{form}.onnx', form=form, opset=17)
    for path, scale in zip(shape_images[:10], SCALES * 2, strict=True):
        cv2.imwrite(str(folder / f'{path.stem}.png'), cv2.resize(cv2.imread(str(path)), None, fx=scale, fy=scale))
    for name in BAD:
        (folder / name).write_text('text')
    (folder / 'page').symlink_to(PROJECT)
    return folder


@pytest.fixture(scope='module')
def seen(folder) -> dict[str, dict]:
    """What the page shows for each model and image."""
    images = json.dumps(sorted({path.name for path in folder.glob('*.png')} | set(BAD)))
    (folder / 'test.html').write_text(
        f'<!DOCTYPE html><link rel="icon" href="data:,"><iframe width={WIDTH} height=900></iframe>'
        f'<script type="module">const IMAGES = {images};{USE}</script>'
    )
    server = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=folder))
    server.done = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--enable-logging=stderr',
        '--use-fake-device-for-media-stream',
        '--use-fake-ui-for-media-stream',
        f'--user-data-dir={folder}/user',
    ]
    log = folder / 'log.txt'
    with log.open('w') as file:
        page = f'http://127.0.0.1:{server.server_port}/test.html'
        browser = subprocess.Popen([BROWSER, *options, page], stdout=file, stderr=file, start_new_session=True)
        try:
            answered = server.done.wait(60)
        finally:
            os.killpg(browser.pid, 15)
            browser.wait(10)
            server.shutdown()
            server.server_close()
    assert answered, log.read_text()
    assert 'CONSOLE' not in log.read_text(), log.read_text()
    return server.found


@pytest.mark.parametrize('form', FORMS)
def test_boxes_are_those_of_the_runtime_within_a_pixel(form, folder, seen):
    detector = RTMDetector(folder / f'{form}.onnx')
    compared = 0
    for name, page in seen[form].items():
        if name in BAD:
            continue
        expected = detector.predict(folder / name)
        found = [(cells[0], np.array(cells[1:], float)) for cells in page['rows']]
        assert len(found) == len(expected), name
        for box, score, label in zip(expected.boxes, expected.scores, expected.labels, strict=True):
            values = [row for text, row in found if text == detector.info.classes[label]]
            assert any(np.abs(row[1:] - box).max() < 1 and abs(row[0] - score) < 0.03 for row in values), name
            compared += 1
        for (text, _), colour in zip(found, page['colours'], strict=True):
            bgr = label_colour(detector.info.classes.index(text))
            assert np.abs(np.array(re.findall(r'\d+', colour), int) - bgr[::-1]).max() <= 4
    assert compared >= (15 if form == 'raw' else 5)


def test_files_that_are_neither_image_nor_model_are_reported(seen):
    assert {name: seen['raw'][name]['status'] for name in BAD} == BAD


def test_the_camera_fits_on_a_phone(seen):
    assert seen['camera'] == dict(width=640, pressed='true', scroll=WIDTH)
