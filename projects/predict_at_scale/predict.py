"""Predict on very many images with Ray, on one machine or a cluster; the results are Parquet files.

    python projects/predict_at_scale/predict.py model.onnx results/ images/ s3://bucket/more --workers 8

The names of all images are written to `_images.parquet` first, in row groups. A worker takes a row group, reads and
predicts its images, and writes `part-000000.parquet` with a row for each. Only complete parts get this name, so the
same command resumes a run that was killed with the parts that are missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from rtmdet_runtime import Detections, RTMDetector
from rtmdet_runtime.image import Image, decode_image
from rtmdet_runtime.image_files import ENDINGS, is_image
from rtmdet_runtime.messages import one_line

IMAGES = '_images.parquet'
IMAGE_SCHEMA = pa.schema([('source', pa.int32()), ('path', pa.string())])
"""Index of the source that an image is in, and its path in the file system of the source."""
SETTINGS = b'rtmdet'
"""Key of the settings in the metadata of `_images.parquet`."""
RESULT_SCHEMA = pa.schema(
    [
        ('image', pa.string()),
        ('error', pa.string()),  # null if the image was predicted
        ('boxes', pa.list_(pa.list_(pa.float32(), 4))),  # xyxy in pixels
        ('scores', pa.list_(pa.float32())),
        ('classes', pa.list_(pa.string())),
    ]
)
READERS = 8
"""Threads of a worker that read and decode images; while they wait for a store, the network runs."""


class Place(NamedTuple):
    """A folder in a file system; `scheme` is '' for local files, otherwise, for example, 's3://'."""

    scheme: str
    files: FileSystem
    folder: str

    @classmethod
    def of(cls, name: str) -> Place:
        """Open an absolute path or a URI that pyarrow knows: s3://, gs://, abfs://, hdfs://, file:// ..."""
        scheme, separator, _ = name.partition('://')
        if not separator:
            return cls('', LocalFileSystem(), name)
        files, folder = FileSystem.from_uri(name)
        return cls(scheme + separator, files, folder.rstrip('/'))


def absolute(name: str) -> str:
    """Return a URI unchanged, and the absolute path of another name: workers may be in other folders."""
    return name if '://' in name else os.path.abspath(name)


def walk(files: FileSystem, folder: str) -> Iterator[str]:
    """Yield the paths of images in a folder and its subfolders, sorted within each folder.

    Only one folder is listed at a time, because a list of all images might not fit into the memory.
    """
    entries = sorted(files.get_file_info(FileSelector(folder)), key=lambda entry: entry.path)
    for entry in entries:
        if entry.type == FileType.File and is_image(entry.base_name):
            yield entry.path
    for entry in entries:
        if entry.type == FileType.Directory:
            yield from walk(files, entry.path)


def write_table(place: Place, name: str, schema: pa.Schema, groups: Iterable[list[dict]]) -> None:
    """Write a Parquet file with a row group for each list of rows; it appears in the folder when it is complete."""
    place.files.create_dir(place.folder)
    path, unfinished = f'{place.folder}/{name}', f'{place.folder}/.{name}.{os.getpid()}'
    with place.files.open_output_stream(unfinished) as stream, pq.ParquetWriter(stream, schema) as writer:
        for rows in groups:
            writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=len(rows))
    place.files.move(unfinished, path)


def list_images(out: Place, sources: list[str], part_size: int, model: str) -> int:
    """Write `_images.parquet` unless an earlier run has; return the number of parts.

    Args:
        out: folder of the results.
        sources: folders of images.
        part_size: number of images in a part.
        model: identifies the model; an earlier run must have used the same.

    Raises:
        ValueError: if there are no images, a source is in another, or the folder has results of other settings.
        OSError: if a folder doesn't exist.
    """
    if part_size < 1:
        raise ValueError(f'part size must be at least 1, got {part_size}')
    settings = json.dumps(dict(sources=sources, part_size=part_size, model=model))
    if out.files.get_file_info(f'{out.folder}/{IMAGES}').type == FileType.NotFound:
        places = [Place.of(source) for source in sources]
        names = [f'{place.scheme}{place.folder}/' for place in places]
        for i, name in enumerate(names):
            for other in names[:i]:
                if name.startswith(other) or other.startswith(name):
                    raise ValueError(f'sources must not contain each other, got {other} and {name}; name one of them')
        rows = (dict(source=i, path=path) for i, place in enumerate(places) for path in walk(place.files, place.folder))
        if not (first := list(islice(rows, part_size))):
            raise ValueError(f'{", ".join(sources)} must have images ({", ".join(sorted(ENDINGS))}), got none')
        groups = chain([first], iter(lambda: list(islice(rows, part_size)), []))
        write_table(out, IMAGES, IMAGE_SCHEMA.with_metadata({SETTINGS: settings}), groups)
    with out.files.open_input_file(f'{out.folder}/{IMAGES}') as file:
        images = pq.ParquetFile(file)
        if images.schema_arrow.metadata[SETTINGS].decode() != settings:
            raise ValueError(
                f'{out.folder} must be empty or have results of the same model, sources and part size, got those of '
                'another run; choose another folder'
            )
        return images.num_row_groups


def missing_parts(out: Place, count: int) -> list[int]:
    """Return the numbers of the parts below `count` that aren't written yet."""
    names = (entry.base_name for entry in out.files.get_file_info(FileSelector(out.folder)))
    done = {int(found[1]) for name in names if (found := re.fullmatch(r'part-(\d+)\.parquet', name))}
    return sorted(set(range(count)) - done)


class Predictor:
    """A worker: keeps the model, and predicts one part after the other.

    Args:
        model: content of an ONNX file, because other machines can't read the file.
        out: folder of the results.
        sources: folders of images.
        batch_size: number of images that the network gets at once.
        threads: threads of the network.
    """

    def __init__(self, model: bytes, out: str, sources: list[str], batch_size: int, threads: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, 'model.onnx')
            file.write_bytes(model)
            self.detector = RTMDetector(file, threads=threads)
        self.out, self.sources = Place.of(out), [Place.of(source) for source in sources]
        self.images = pq.ParquetFile(self.out.files.open_input_file(f'{self.out.folder}/{IMAGES}'))
        self.batch_size = batch_size
        self.readers = ThreadPoolExecutor(READERS)

    def __call__(self, row: dict) -> dict:
        """Predict the images of `row['part']` and write its file; return counts and the CPU time."""
        start, part = time.process_time(), int(row['part'])
        rows = list(self.predict(self.images.read_row_group(part).to_pylist()))
        write_table(self.out, f'part-{part:06d}.parquet', RESULT_SCHEMA, [rows])
        errors = sum(row['error'] is not None for row in rows)
        return dict(part=part, images=len(rows), errors=errors, cpu=time.process_time() - start)

    def predict(self, images: list[dict]) -> Iterator[dict]:
        """Yield a row for each image; while a batch is predicted, the next one is read."""
        batches = [images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size)]
        following = [self.readers.submit(self.read, image) for image in batches[0]]
        for batch, after in zip(batches, [*batches[1:], []], strict=True):
            contents = [future.result() for future in following]
            following = [self.readers.submit(self.read, image) for image in after]
            readable = [content for content in contents if not isinstance(content, str)]
            found = iter(self.detector.predict(readable, self.batch_size))
            for image, content in zip(batch, contents, strict=True):
                name = self.sources[image['source']].scheme + image['path']
                yield dict(image=name, error=content) if isinstance(content, str) else self.record(name, next(found))

    def read(self, image: dict) -> Image | str:
        """Return an image, or the error if it is bad. Other errors, such as those of the network, end the run."""
        try:
            with self.sources[image['source']].files.open_input_file(image['path']) as file:
                return decode_image(file.read(), image['path'])
        except (ValueError, FileNotFoundError, PermissionError) as error:
            return one_line(error)

    def record(self, name: str, found: Detections) -> dict:
        """Return the row of an image."""
        values = dict(boxes=found.boxes.tolist(), scores=found.scores.tolist(), classes=found.names)
        return dict(image=name, error=None, **values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', type=Path, help='ONNX file of `rtmdet export`')
    parser.add_argument('out', type=absolute, help='folder of the results, a path or a URI')
    parser.add_argument('sources', type=absolute, nargs='+', help='folders with images, paths or URIs')
    parser.add_argument('--workers', type=int, default=2, help='processes with a model (default: 2)')
    parser.add_argument('--threads', type=int, default=1, help='threads of the network in a worker (default: 1)')
    parser.add_argument('--part-size', type=int, default=1000, help='images in a part (default: 1000)')
    parser.add_argument('--batch-size', type=int, default=8, help='images per batch (default: 8)')
    parser.add_argument('--address', help='address of a Ray cluster (default: start Ray on this machine)')
    args = parser.parse_args()
    try:
        RTMDetector(args.model)  # here, an error is one line; in a worker, it would be a long traceback
        model = args.model.read_bytes()
        count = list_images(Place.of(args.out), args.sources, args.part_size, hashlib.sha256(model).hexdigest())
    except (ValueError, OSError) as error:
        raise SystemExit(f'Error: {one_line(error)}') from None
    missing = missing_parts(Place.of(args.out), count)
    print(f'{len(missing)} of {count} parts are missing', flush=True)
    if not missing:
        return

    import ray  # takes a second

    ray.init(address=args.address, **({} if args.address else dict(num_cpus=args.workers * args.threads)))
    ray.data.DataContext.get_current().enable_progress_bars = False
    settings = dict(out=args.out, sources=args.sources, batch_size=args.batch_size, threads=args.threads)
    # There is a block for each part, so that a part is a task. If a worker dies, Ray starts another one and repeats
    # its tasks.
    parts = ray.data.from_items([dict(part=part) for part in missing], override_num_blocks=len(missing)).map(
        Predictor,
        fn_constructor_kwargs=dict(model=model, **settings),
        compute=ray.data.ActorPoolStrategy(size=args.workers),
        num_cpus=args.threads,
    )
    start, total = time.perf_counter(), dict(images=0, errors=0, cpu=0.0)
    for done, row in enumerate(parts.iter_rows(), 1):
        total = {name: value + row[name] for name, value in total.items()}
        wall = time.perf_counter() - start
        print(
            f'{done}/{len(missing)} parts, {total["images"]:,} images, {total["errors"]:,} with an error, '
            f'{total["images"] / wall:.1f} images/s, {1e3 * total["cpu"] / total["images"]:.2f} ms of CPU per image',
            flush=True,
        )


if __name__ == '__main__':
    main()
