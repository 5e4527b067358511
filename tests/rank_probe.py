"""A hook for test_end_to_end.py that writes the state of each process at the end of a run."""

import json
import os
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RankProbe(Hook):
    """Write sums of the weights and the image ids that this process trained on to RANK_PROBE/rank<k>.json."""

    def __init__(self):
        self.pictures = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.pictures += [sample.img_id for sample in data_batch['data_samples']]

    def after_train(self, runner):
        weights = {name.removeprefix('module.'): value for name, value in runner.model.state_dict().items()}
        sums = {name: value.double().sum().item() for name, value in weights.items()}
        content = dict(weights=sums, pictures=self.pictures)
        Path(os.environ['RANK_PROBE'], f'rank{get_rank()}.json').write_text(json.dumps(content))
