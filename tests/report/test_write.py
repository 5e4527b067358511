"""`rtmdet report`: the page is complete, needs no network, escapes names, and is written atomically."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from click.testing import CliRunner
from training_run import PLOTS

from rtmdet_cli.main import main
from rtmdet_plugin.report import write

SECTIONS = {
    'summary',
    'settings',
    'training',
    'classes',
    'threshold',
    'errors',
    'images',
    'dataset',
    'warnings',
    'speed',
}


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def call(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, ['report', *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def test_the_page_has_every_section_and_plot_once(report):
    ids = Page(report).values('id')
    assert {name for name in ids if name.startswith('plot-')} == {f'plot-{name}' for name in PLOTS}
    assert set(ids) >= SECTIONS and len(ids) == len(set(ids))
    assert 'class="problem"' not in report


def test_the_page_needs_no_network(report):
    page = Page(report)
    links = [*page.values('src'), *page.values('href'), *page.values('xlink:href')]
    assert links and all(link.startswith(('#', 'data:')) for link in links)
    assert len([link for link in links if link.startswith('data:image/jpeg;base64,/9j/')]) >= 3
    assert '@import' not in report and not re.search(r'url\((?!#)', report)


def test_names_of_users_are_escaped(report, finished_run):
    page = Page(report)
    assert page.tags().count('script') == page.tags().count('style') == 1
    assert not {'img', 'b', 'i'} & set(page.tags())
    for text in (
        "žluť 🐈 $x_1$ {{ 1 }} & 'a\"b'", '<script>alert(1)</script>', '<script>alert(4)</script>', '<b>usual</b>',
        'Data: <script>alert(5)</script>', '<b>.jpg: cut off', finished_run.name,
    ):  # fmt: skip
        assert text in page.texts, text
    assert any('図.png' in text for text in page.texts)


def test_the_page_says_what_was_found(report, finished_run):
    texts = Page(report).texts
    assert 'The training is complete.' not in texts and any(t.startswith('2 of 14 epochs') for t in texts)
    assert '1 h 5 min' in texts and '2 bad samples were skipped' in texts and 'b.jpg: empty' in texts
    assert any(text.startswith('best_coco_bbox_mAP_epoch_2.pth on all 6 validation images.') for text in texts)
    saved = json.loads((finished_run / 'recommended.json').read_text())
    assert saved['checkpoint'] == 'best_coco_bbox_mAP_epoch_2.pth'
    assert any(f'Recommended score threshold: {saved["score_thr"]:.3f}.' in text for text in texts)


def test_a_run_without_checkpoint_and_data_has_what_there_is(copied_run):
    (copied_run / 'best_coco_bbox_mAP_epoch_2.pth').unlink()
    config = next(copied_run.glob('*/vis_data/config.py'))
    config.write_text(config.read_text().replace("ann_file='train.json'", "ann_file='gone.json'"))
    call(copied_run)
    page = Page((copied_run / 'report.html').read_text())
    problems = [text for text in page.texts if ' can not be ' in text]
    assert len(problems) == 2 and 'gone.json' in problems[0] and 'checkpoint' in problems[1]
    assert {'plot-losses', 'plot-ap'} <= set(page.values('id')) and 'classes' not in page.values('id')


def test_a_sample_has_evenly_spaced_images_with_their_objects():
    images = [dict(id=i) for i in range(10)]
    truth = dict(images=images, annotations=[dict(id=i, image_id=i // 2) for i in range(20)], categories=['cat'])
    assert write.sample(truth, 10) is truth
    found = write.sample(truth, 4)
    assert [image['id'] for image in found['images']] == [0, 2, 5, 7] and found['categories'] == ['cat']
    assert [item['id'] for item in found['annotations']] == [0, 1, 4, 5, 10, 11, 14, 15]


def test_a_second_report_replaces_the_first_but_nothing_else(copied_run, tmp_path):
    out = tmp_path / 'out.html'
    out.write_text('<!DOCTYPE html><p>my page')
    assert 'out.html would replace a file of another kind' in call(copied_run, '-o', out, code=1)
    assert 'must end in .html' in call(copied_run, '-o', tmp_path / 'out.json', code=1)
    assert out.read_text() == '<!DOCTYPE html><p>my page' and not (copied_run / 'report.html').exists()
    out.unlink()
    (copied_run / 'best_coco_bbox_mAP_epoch_2.pth').unlink()  # fast from here on
    call(copied_run, '-o', out)
    first = out.read_text()
    call(copied_run, '-o', out)
    assert len(out.read_text()) == len(first) and sorted(p.name for p in tmp_path.iterdir()) == ['out.html', 'run']


def test_a_folder_that_can_not_be_written_is_one_line(copied_run, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('rtmdet_runtime.atomic_files.tempfile.TemporaryFile', refuse)
    error = call(copied_run, code=1)
    assert error.count('\n') == 1 and 'report.html can not be written' in error


def test_a_folder_without_a_run_is_one_line(tmp_path):
    error = call(tmp_path, code=1)
    assert error.count('\n') == 1 and 'must be the work directory of a training' in error


def test_a_failing_report_is_a_warning_of_the_training(tmp_path, capsys):
    write.report_training(Path(tmp_path))
    said = capsys.readouterr()
    assert said.out == '' and said.err.startswith('Warning: the report could not be written: ')
    assert said.err.endswith(f'try again with: rtmdet report {tmp_path}\n')
