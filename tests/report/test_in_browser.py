"""The report in headless Chromium: plots, width, colours and the enlarged image, on a phone and a desktop."""

import html
import json
import re
import shutil
import subprocess

import pytest
from training_run import PLOTS

BROWSER = next((path for name in ('chromium', 'chromium-browser', 'google-chrome') if (path := shutil.which(name))), '')
WIDTHS, SCHEMES = (390, 1280), ('light', 'dark')
LOOK = """
function look(frame) {
  const page = frame.contentDocument, style = frame.contentWindow.getComputedStyle;
  const size = (element) => [element.getBoundingClientRect().width, element.getBoundingClientRect().height];
  const plots = {};
  for (const plot of page.querySelectorAll('.plot')) {
    plots[plot.id] = {size: size(plot.querySelector('svg')), text: style(plot.querySelector('svg text')).fill};
  }
  const image = page.querySelector('button.zoom');
  image.focus();
  image.click();
  const dialog = page.querySelector('dialog');
  const large = size(dialog.querySelector('svg'));
  return {
    plots, large, scroll: page.documentElement.scrollWidth, open: dialog.open,
    thumbnail: size(image.querySelector('svg')), elements: page.querySelectorAll('img').length,
    images: dialog.querySelectorAll('image').length, focused: page.activeElement.closest('dialog') === dialog,
    text: style(page.body).color, background: style(page.body).backgroundColor,
  };
}
addEventListener('load', () => {
  const found = {};
  for (const frame of document.querySelectorAll('iframe')) found[frame.id] = look(frame);
  document.body.replaceChildren(JSON.stringify(found));
});
"""


@pytest.fixture(scope='module')
def seen(report, tmp_path_factory) -> dict[str, dict]:
    """What the browser shows in frames of each width and colour scheme."""
    if not BROWSER:
        pytest.skip('no Chromium in PATH')
    frames = [
        f'<iframe id="{width} {scheme}" width={width} height=900 style="color-scheme: {scheme}" '
        f'srcdoc="{html.escape(report)}"></iframe>'
        for width in WIDTHS
        for scheme in SCHEMES
    ]
    folder = tmp_path_factory.mktemp('browser')
    page = folder / 'page.html'
    page.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{"".join(frames)}<script>{LOOK}</script>')
    options = [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--enable-logging=stderr',
        f'--user-data-dir={folder}/user',
    ]
    done = subprocess.run(
        [BROWSER, *options, '--virtual-time-budget=10000', '--dump-dom', page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'CONSOLE' not in done.stderr, done.stderr
    (found,) = re.findall(r'<body>(\{.*\})</body>', done.stdout)
    return json.loads(html.unescape(found))


@pytest.mark.parametrize('width', WIDTHS)
@pytest.mark.parametrize('scheme', SCHEMES)
def test_every_plot_is_shown_and_an_image_can_be_enlarged(width, scheme, seen):
    page = seen[f'{width} {scheme}']
    assert page['plots'].keys() == {f'plot-{name}' for name in PLOTS}
    for name, plot in page['plots'].items():
        assert plot['size'][0] > 250 and plot['size'][1] > 150, name
        assert plot['text'] == page['text'], name
    assert page['scroll'] <= width and page['elements'] == 0
    bright = [sum(map(int, re.findall(r'\d+', page[part]))) for part in ('text', 'background')]
    assert bright[0] < 150 < 650 < bright[1] if scheme == 'light' else bright[1] < 150 < 600 < bright[0]
    assert page['open'] and page['focused'] and page['images'] == 2
    assert page['large'][0] > 1.5 * page['thumbnail'][0]
