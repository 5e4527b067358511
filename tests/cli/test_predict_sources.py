"""`rtmdet predict` on the sources and with the outputs that people have, on a trained model."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from samples import CLASSES

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

from rtmdet_cli.main import main  # noqa: E402
from rtmdet_plugin.export.onnx_export import export_onnx  # noqa: E402
from rtmdet_plugin.training.formats.find_format import read_all  # noqa: E402
from rtmdet_runtime import RTMDetector  # noqa: E402
from rtmdet_runtime.uninterrupted import uninterrupted  # noqa: E402


@pytest.fixture(scope='module')
def model(shapes_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('model') / 'm.onnx'
    export_onnx(shapes_model, path, form='raw', opset=17, dynamic='batch')
    return path


@pytest.fixture
def folder(shape_images, tmp_path, monkeypatch) -> Path:
    """The working folder, with images/0.png to images/4.png."""
    monkeypatch.chdir(tmp_path)
    Path('images').mkdir()
    for number, path in enumerate(shape_images[:5]):
        cv2.imwrite(f'images/{number}.png', cv2.imread(str(path)))
    return tmp_path


def call(*arguments, code: int = 0, stdin: str | None = None):
    done = CliRunner().invoke(main, ['predict', *map(str, arguments)], input=stdin)
    assert done.exit_code == code, done.output
    return done


def records(*arguments, stdin: str | None = None) -> list[dict]:
    call(*arguments, '--json', 'd.json', stdin=stdin)
    return json.loads(Path('d.json').read_text())


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected) == 5 and sum(len(record['scores']) for record in expected) > 5
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one['boxes'], other['boxes'], atol=1e-3)
        np.testing.assert_allclose(one['scores'], other['scores'], atol=1e-3)
        assert one['classes'] == other['classes']


def test_boxes_are_the_same_from_every_source(model, folder):
    expected = records(model, 'images')
    names = [f'images/{number}.png' for number in range(5)]
    assert [record['image'] for record in expected] == names
    assert_same(records(model, 'images', '--batch-size', 3), expected)
    assert_same(records(model, 'images/*.png'), expected)
    assert_same(records(model, *names), expected)
    assert_same(records(model, '-', stdin='\n'.join(names) + '\n\n'), expected)
    detector = RTMDetector(model)
    assert_same([found.to_dict() for found in detector('images')], expected)
    assert_same([detector(cv2.imread(name)).to_dict() for name in names], expected)
    assert_same([found.to_dict() for found in detector.predict(names, batch_size=2)], expected)


def test_boxes_of_a_lossless_video_are_those_of_its_images(model, folder):
    pytest.importorskip('av', reason='av is not installed')
    from videos import read_back, write_video

    for number in range(5):
        cv2.imwrite(f'images/{number}.png', cv2.resize(cv2.imread(f'images/{number}.png'), (160, 128)))
    expected = records(model, 'images')
    write_video(folder / 'a.mkv', [cv2.imread(f'images/{number}.png') for number in range(5)])
    found = records(model, 'a.mkv', '--out', 'drawn', '--batch-size', 2)
    assert_same(found, expected)
    assert [(record['image'], record['frame'], record['time']) for record in found] == [
        ('a.mkv', number, number / 25) for number in range(5)
    ]
    frames, seconds = read_back(Path('drawn/a.mkv'))
    assert seconds == pytest.approx([number / 25 for number in range(5)])
    assert frames[0].shape == cv2.imread('images/0.png').shape
    write_video(folder / 'others' / 'a.mkv', frames)
    said = call(model, 'a.mkv', 'images/0.png', '--out', 'others', code=1)
    assert said.stderr.count('others/a.mkv would replace a file that rtmdet did not write') == 1
    said = call(model, 'a.mkv', 'images/0.png', '--out', 'drawn', '--every', 2, '--crops', '--save', 'yolo')
    assert said.stdout.splitlines()[0].startswith('a.mkv: 3 frames, ')
    assert len(read_back(Path('drawn/a.mkv'))[0]) == 3 and Path('drawn/0.png').is_file()
    names = sorted(path.name for path in Path('drawn/labels_yolo').glob('*.txt'))
    assert names == ['0.txt', 'a_000000.txt', 'a_000002.txt', 'a_000004.txt', 'classes.txt']


def test_every_format_has_the_same_boxes(model, folder):
    expected = records(model, 'images')
    formats = ('json', 'jsonl', 'csv', 'coco', 'yolo', 'voc')
    call(model, 'images', '--out', 'out', *(part for name in formats for part in ('--save', name)))
    assert json.loads(Path('out/predictions.json').read_text()) == expected
    assert [json.loads(line) for line in Path('out/predictions.jsonl').read_text().splitlines()] == expected
    with open('out/predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    boxes = [(r['image'], *b, s, n) for r in expected for b, s, n in zip(r['boxes'], r['scores'], r['classes'])]  # noqa: B905
    assert [
        (row['image'], *(float(row[name]) for name in ('x1', 'y1', 'x2', 'y2', 'score')), row['name']) for row in rows
    ] == boxes
    # Labels have boxes that are clipped to the image.
    sizes = {record['image']: cv2.imread(record['image']).shape[:2] for record in expected}
    clipped = [[np.clip(box, 0, [*sizes[r['image']][::-1]] * 2).tolist() for box in r['boxes']] for r in expected]
    coco = json.loads(Path('out/predictions.coco.json').read_text())
    assert [category['name'] for category in coco['categories']] == list(CLASSES)
    assert [image['file_name'] for image in coco['images']] == [f'{number}.png' for number in range(5)]
    by_image = [[a for a in coco['annotations'] if a['image_id'] == image['id']] for image in coco['images']]
    for annotations, wanted in zip(by_image, clipped, strict=True):
        found = [[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in annotations)]
        np.testing.assert_allclose(found, wanted, atol=2e-3)
    for number, wanted in enumerate(clipped):
        objects = ElementTree.parse(f'out/labels_voc/{number}.xml').findall('object')
        found = [[float(edge.text) for edge in node.find('bndbox')] for node in objects]
        np.testing.assert_allclose(found, wanted, atol=0.006)
        assert [node.findtext('name') for node in objects] == expected[number]['classes']
    yolo = [line.split() for line in Path('out/labels_yolo/0.txt').read_text().splitlines()]
    height, width = sizes['images/0.png']
    centres = [[(x1 + x2) / 2 / width, (y1 + y2) / 2 / height] for x1, y1, x2, y2 in clipped[0]]
    np.testing.assert_allclose([[float(value) for value in row[1:3]] for row in yolo], centres, atol=1e-5)
    assert [CLASSES[int(row[0])] for row in yolo] == expected[0]['classes']


def test_saved_labels_can_be_trained_on(model, folder):
    """The reader of `rtmdet train` finds as many boxes as were predicted."""
    expected = sum(len(record['scores']) for record in records(model, 'images'))
    call(model, 'images', '--save', 'voc=images', '--save', 'coco=images/coco.json', code=1)
    call(model, 'images', '--save', 'voc=set/Annotations', '--crops')
    Path('images').rename('set/JPEGImages')
    splits = read_all(Path('set')).splits.values()
    assert sum(len(split.content['annotations']) for split in splits) == expected
    assert len(list(Path('crops').rglob('*.png'))) == expected


def test_classes_and_thresholds(model, folder):
    everything = records(model, 'images')
    wanted = records(model, 'images', '--classes', f'{CLASSES[0]},{CLASSES[1]}')
    kept = {name for record in wanted for name in record['classes']}
    assert kept and kept <= set(CLASSES[:2]) < {name for record in everything for name in record['classes']}
    assert max(len(record['scores']) for record in records(model, 'images', '--max', 1)) == 1
    assert len(records(model, 'images', '--conf', 0.01, '--iou', 0.9)[0]['scores']) > len(everything[0]['scores'])
    assert "got 'cow'; the nearest: " in call(model, 'images', '--classes', 'cow', code=1).stderr


def test_labels_of_people_are_not_replaced(model, folder):
    Path('labels').mkdir()
    Path('labels/0.txt').write_text('0 0.5 0.5 1 1\n')
    said = call(model, 'images', '--save', 'yolo=labels', code=1).stderr
    assert 'labels must be a new or an empty folder, or one with labels that rtmdet wrote' in said
    assert Path('labels/0.txt').read_text() == '0 0.5 0.5 1 1\n'
    for _ in range(2):
        call(model, 'images', '--save', 'yolo=new')
    for value, said in (('xml', '--save must be FORMAT or FORMAT=PATH'), ('csv=', 'got csv='), ('csv=a.txt', '.csv')):
        assert said in call(model, 'images', '--save', value, code=1).stderr
    assert 'got json=' in call(model, 'images', '--json', '', code=1).stderr
    assert 'got a.json twice' in call(model, 'images', '--save', 'json=a.json', '--json', 'a.json', code=1).stderr


def test_folders_in_folders_keep_their_outputs(model, folder):
    Path('images/deep').mkdir()
    Path('images/0.png').rename('images/deep/1.png')
    call(model, 'images', '--recursive', '--out', 'drawn', '--save', 'jsonl=new/p.jsonl')
    assert sorted(str(path) for path in Path('drawn').rglob('*.png')) == [
        'drawn/1.png', 'drawn/2.png', 'drawn/3.png', 'drawn/4.png', 'drawn/deep/1.png'
    ]  # fmt: skip
    for _ in range(2):  # the second run doesn't read what the first one has drawn
        for source in ('images', 'images/**/*.png'):
            call(model, source, '--recursive', '--out', 'images/drawn', '--crops')
    assert len(list(Path('images/drawn').glob('?.png'))) == 4 and not Path('images/drawn/drawn').exists()
    before = Path('images/drawn/1.png').read_bytes()
    for source, stdin in (('images/drawn/*.png', None), ('-', 'images/drawn/1.png')):
        said = call(model, source, '--out', 'images/drawn', stdin=stdin, code=1).stderr
        assert 'images/drawn/1.png would replace the input images/drawn/1.png' in said
    assert Path('images/drawn/1.png').read_bytes() == before


def test_what_can_not_be_shown_or_opened(model, folder, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    assert '--show needs a display' in call(model, 'images', '--show', code=1).stderr
    assert 'camera 97 must be connected and not in use' in call(model, '97', code=1).stderr
    (folder / 'images.zip').write_bytes(b'PK')
    said = call(model, 'images.zip', 'images/0.png', '--json', 'd.json', code=1).stderr
    assert said.splitlines() == [
        'images.zip must be an image, a video or a folder, got an archive; unpack it first',
        'Error: bad images: 1 of 2, listed above; 1 were predicted',
    ]
    assert 'config must be None for' in call(model, 'images', '--config', 'a.py', code=1).stderr


def test_a_checkpoint_gives_the_same_boxes(model, shapes_model, shapes_config, folder):
    import torch

    meta = dict(dataset_meta=shapes_model.dataset_meta, cfg=shapes_config().pretty_text)
    torch.save(dict(state_dict=shapes_model.state_dict(), meta=meta), 'a.pth')
    found = json.loads(call('a.pth', 'images', '--device', 'cpu', '--json', '-').stdout)
    assert_same(found, records(model, 'images'))


def test_ctrl_c_leaves_only_complete_files(model, folder):
    """Sent by a signal to a process that reads names without an end."""
    command = [
        sys.executable,
        '-m',
        'rtmdet_cli.main',
        'predict',
        str(model),
        '-',
        '--out',
        'drawn',
        '--save',
        'csv=d.csv',
    ]
    command += ['--save', 'json=d.json', '--save', 'coco=d.coco.json', '--save', 'yolo=labels']
    names = [f'images/{number}.png\n' for number in range(5)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        process.stdin.write(''.join(names).encode())
        process.stdin.flush()
        wait_until(lambda: Path('drawn/1.png').exists())
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].decode().splitlines()
    assert process.returncode == 130 and said[-1] == 'Interrupted', said
    count = int(said[-2].partition('images that are done, with complete outputs: ')[2])
    assert 1 <= count <= 5 and len(json.loads(Path('d.json').read_text())) == count
    assert len(json.loads(Path('d.coco.json').read_text())['images']) == count
    assert sorted(path.name for path in Path('drawn').iterdir()) == [f'{number}.png' for number in range(count)]
    assert len(list(Path('labels').glob('?.txt'))) == count
    assert all(cv2.imread(str(path)) is not None for path in Path('drawn').iterdir())
    assert not list(Path().rglob('.unfinished*'))


def test_the_process_can_end_while_it_waits_for_a_name():
    code = (
        'import threading; from rtmdet_cli.predict import names_on_stdin as names; seen = threading.Event()\n'
        'threading.Thread(target=lambda: [seen.set() for name in names()], daemon=True).start(); seen.wait(60)'
    )
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b'a.png\n')
        process.stdin.flush()
        assert process.wait(timeout=60) == 0, process.stderr.read()


def wait_until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ctrl_c_waits_for_the_current_result():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
        done.append(1)
    assert done == [1] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_tracks_have_ids_in_every_output(model, folder):
    pytest.importorskip('av', reason='av is not installed')
    pytest.importorskip('trackers', reason='trackers is not installed')
    from videos import write_video

    wide = cv2.copyMakeBorder(cv2.imread('images/0.png'), 0, 0, 40, 40, cv2.BORDER_REPLICATE)
    write_video(Path('clip.mkv'), [wide[:, 3 * number : 128 + 3 * number].copy() for number in range(6)])
    saved = [word for kind in ('jsonl', 'csv', 'coco', 'yolo', 'voc') for word in ('--save', kind)]
    call(model, 'clip.mkv', '--track', '--out', 'drawn', *saved)
    lines = [json.loads(line) for line in Path('drawn/predictions.jsonl').read_text().splitlines()]
    tracks = [sorted(line['ids']) for line in lines]
    assert not tracks[0] and tracks[1] and all(set(tracks[1]) <= set(track) for track in tracks[2:]), 'the same objects'
    rows = list(csv.DictReader(Path('drawn/predictions.csv').read_text().splitlines()))
    coco = json.loads(Path('drawn/predictions.coco.json').read_text())['annotations']
    yolo = [line for file in Path('drawn/labels_yolo').rglob('clip*.txt') for line in file.read_text().splitlines()]
    voc = [
        int(value.text or -1)
        for file in Path('drawn/labels_voc').rglob('*.xml')
        for value in ElementTree.parse(file).iterfind('object/attributes/attribute/value')
    ]
    expected = sorted(number for track in tracks for number in track)
    assert sorted(int(row['id']) for row in rows) == expected
    assert sorted(annotation['track_id'] for annotation in coco) == expected
    assert sorted(int(line.split()[5]) for line in yolo) == sorted(voc) == expected


def test_tiles_find_what_a_large_image_loses(model, folder):
    """Shapes of 28 pixels and more in an image that the network shrinks eight times."""
    tile = cv2.imread('images/0.png')
    cv2.imwrite('large.png', np.tile(tile, (8, 8, 1)))
    whole, tiles = (
        len(records(model, 'large.png', '--max', 1000, *options)[0]['scores'])
        for options in ([], ['--tile', max(tile.shape), '--overlap', 0, '--batch-size', 8])
    )
    alone = len(records(model, 'images/0.png')[0]['scores'])
    assert whole < 0.1 * tiles and tiles > 0.8 * 64 * alone
