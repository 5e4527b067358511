"""Read the ground truth of a config's dataset."""

from __future__ import annotations

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..checkpoints.load_model import config_name
from ..datasets.coco_file import category_ids, read_coco_file
from ..datasets.ground_truth import ground_truth
from .evaluation import building


def truth_of_config(config: Config, split: str) -> dict[str, list[dict]]:
    """Return the images and objects of a config's dataset.

    Args:
        config: config with `train_dataloader`, `val_dataloader` or `test_dataloader`.
        split: 'train', 'val' or 'test'.

    Returns:
        COCO's lists, see `ground_truth`.

    Raises:
        FileNotFoundError: if the annotation file doesn't exist.
        ValueError: if the config has no such dataset, it can't be built or read, or it has no COCO file.
    """
    part = f'{split}_dataloader'
    dataset = (config.get(part) or {}).get('dataset')
    if not dataset:
        has = [other for other in ('train', 'val', 'test') if config.get(f'{other}_dataloader')]
        raise ValueError(f'{config_name(config)} must have {part}, got only {", ".join(has) or "a model"}')
    while 'dataset' in dataset:  # wrappers such as RepeatDataset
        dataset = dataset['dataset']
    init_default_scope(config.get('default_scope', 'mmdet'))
    with building(config, part):
        built = DATASETS.build({**dataset, 'pipeline': [], 'test_mode': True, 'lazy_init': False})
    if not isinstance(built, CocoDataset):
        raise ValueError(f'{part} of {config_name(config)} must have a CocoDataset, got {type(built).__name__}')
    content = read_coco_file(built.ann_file, built.backend_args, annotated=False)
    ids = category_ids(content['categories'], built.metainfo['classes'], built.ann_file)
    paths = {info['img_id']: info['img_path'] for info in map(built.get_data_info, range(len(built)))}
    return ground_truth(content, paths, ids)
