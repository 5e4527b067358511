"""Turn a dataset into the config of a training on it, with the numbers that `rtmdet train` would choose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

from rtmdet_runtime.choices import MODELS

from ..checkpoints.load_model import load_config
from ..config.input_size import set_input_size
from ..config.pipelines import loads_masks, preprocessing
from ..errors import RefusedError
from ..training.facts import facts_of
from ..training.fit_to_data import Facts, fit, input_size
from ..training.formats.labelled import Labelled


def training_config(dataset: Labelled, model: str, folder: Path) -> Config:
    """Return the config of a training from scratch, with the batch size and the number of workers of the base.

    Args:
        dataset: the dataset.
        model: name of the model, such as 'tiny'.
        folder: folder for the annotations, if they need a file.

    Raises:
        RefusedError: if the dataset has no objects to train on.
    """
    config = base_config(model)
    set_input_size(config, input_size(_facts(dataset, config)).value)
    train = dataset.splits['train']
    file = train.file
    if file is None:
        file = folder / 'train.json'
        file.write_text(json.dumps(train.content))
    config.model.bbox_head.num_classes = len(dataset.classes)
    config.model.backbone.init_cfg = None
    config.custom_hooks = [dict(type='RTMChannelsLastHook')]
    config.train_dataloader.dataset.update(
        data_root='',
        ann_file=str(file),
        data_prefix=dict(img=f'{train.folder}/'),
        metainfo=dict(classes=dataset.classes),
        filter_cfg=None,
    )
    return config


def fit_loader(config: Config, dataset: Labelled) -> None:
    """Set the batch size and the number of workers of a config, in place.

    Args:
        config: see `training_config`.
        dataset: its dataset.
    """
    choices = fit(_facts(dataset, config), dict(imgsz=usual_size(config)))
    config.train_dataloader.update(batch_size=choices['batch'].value, num_workers=choices['workers'].value)


def fitting_size(dataset: Labelled, model: str) -> int:
    """Return the input size in pixels of a training, or the model's if there are no objects to train on."""
    config = base_config(model)
    try:
        return input_size(_facts(dataset, config)).value
    except RefusedError:
        return usual_size(config)


def base_config(model: str) -> Config:
    """Return the shipped config of a model of `MODELS`, such as 'tiny'."""
    return load_config(f'rtmdet_plugin::{MODELS[model]}.py')


def wants_masks(data: Any, model: str) -> bool:
    """Return whether a config, or the model that is chosen for a dataset, loads masks for its training."""
    config = data if isinstance(data, Config) else base_config(model)
    return loads_masks(config.get('train_dataloader'))


def usual_size(config: Config) -> int:
    """Return the longer side of a config's input in pixels."""
    return max(preprocessing(config)['input_size'])


def _facts(dataset: Labelled, config: Config) -> Facts:
    """Return the facts that numbers follow from.

    Raises:
        RefusedError: if the dataset has no objects to train on.
    """
    train = dataset.splits.get('train')
    if train is None or not train.content['annotations']:
        raise RefusedError(f'{dataset.source} must have objects to train on, got none')
    return facts_of(train.content, config, pretrained=False, known=False)
