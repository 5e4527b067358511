"""Read the datasets that a config names as `rtmdet train` reads a folder, so that the same checks apply to both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checkpoints.load_model import config_name
from ..datasets.coco_file import category_ids, read_usable_images
from ..errors import RefusedError
from ..training.formats import coco_json
from ..training.formats.labelled import Labelled, Split

SPLITS = ('train', 'val', 'test')


def read_config_data(config: Config, chosen: Sequence[str] = SPLITS) -> Labelled:
    """Read the annotation files of a config's data loaders, which must be COCO JSON.

    Splits are called train, val and test; further datasets of a loader, as in `ConcatDataset`, have a number. A test
    split with the files of another one is left out.

    Args:
        config: the config.
        chosen: splits to read.

    Raises:
        RefusedError: if an annotation file is missing or faulty, or the config has no dataset.
    """
    splits: dict[str, Split] = {}
    skipped: dict[str, dict[str, str]] = {}
    classes: dict[str, None] = {}
    seen = set()
    for split in chosen:
        datasets = list(_datasets((config.get(f'{split}_dataloader') or {}).get('dataset')))
        for number, settings in enumerate(datasets, 1):
            file, folder = _paths(settings)
            if split == 'test' and (file, folder) in seen:
                continue
            seen.add((file, folder))
            if not file.is_file():
                raise RefusedError(
                    f'ann_file of {split}_dataloader must be an annotation file, got no such file: {file}'
                )
            content, bad = read_usable_images(str(file))
            names = category_ids(content['categories'], (settings.get('metainfo') or {}).get('classes'), str(file))
            classes |= dict.fromkeys(names)
            ids = {*names.values()}
            content['annotations'] = [item for item in content['annotations'] if item['category_id'] in ids]
            name = split if number == 1 else f'{split} {number}'
            splits[name], skipped[name] = coco_json.split_of(content, bad, folder, file)
    if not splits:
        raise RefusedError(f'{config_name(config)} must have datasets with ann_file for {", ".join(chosen)}, got none')
    return Labelled(coco_json.KIND, tuple(classes), Path(config_name(config)), splits, skipped)


def _datasets(settings: Any) -> Iterator[dict]:
    """Yield the datasets in a config with annotation files, through wrappers such as `RepeatDataset`."""
    if not isinstance(settings, dict):
        return
    if settings.get('ann_file'):
        yield settings
        return
    for inner in (settings.get('dataset'), *(settings.get('datasets') or ())):
        yield from _datasets(inner)


def _paths(settings: dict) -> tuple[Path, Path]:
    """Return the annotation file and the image folder of a dataset."""
    root = settings.get('data_root') or ''
    prefix = settings.get('data_prefix') or {}
    images = prefix.get('img') or prefix.get('img_path') or ''
    return Path(os.path.join(root, settings['ann_file'])), Path(os.path.join(root, images))
