"""COCO annotations with the classes taken from the file.

In everything else it is mmdet's `CocoDataset`: filtering, test mode, subsets, serialisation, wrappers. Differences:

- *Classes come from the annotation file*, in the order of their category ids, unless `metainfo` names them.
  mmdet assumes COCO's 80 by default, so that a dataset with other names trains on no object at all.
- *A class that the file doesn't have is an error.* mmdet drops it silently, which shifts the labels of all later
  classes.
- *Labels follow the order of the classes.* mmdet's follow the order of the categories in the file, whatever
  the order of `metainfo['classes']`, so that a class list in another order puts wrong names on the labels.
  `RTMCocoMetric` follows the same rule.
- *There is no palette of COCO's 80 colours*, unless `metainfo` has one; mmdet's visualizer then uses its own.
- *Broken or empty files are refused* with the file's name and what is required, and so are training files without
  any object. Classes without objects and unusable boxes are logged. What only COCO's evaluation needs (`iscrowd`,
  `area`, ids of annotations) may be missing, see `read_coco_file`.
- *The file is read once*, without pycocotools.
- *A bad sample doesn't end the run*, unless configured: see `on_bad_sample`.
- *Training and evaluation read images in the same way.* `LoadImageFromFile` in a pipeline is run as
  `RTMLoadImageFromFile`; its name stays in the configs, because mmdet's `DetInferencer` and mmdeploy search for it.
- *Masks are checked if the pipeline loads them*: objects without a usable one are trained as background and logged with
  the reason, and images with no other object are skipped; mmdet ignores some of them silently and fails on others. A
  file without any mask is refused.
- *`filter_empty_gt` counts usable boxes.* mmdet's counts annotations of any kind, so that an image whose only box
  has no width is trained as background.
"""

from __future__ import annotations

import logging
import os.path as osp
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NoReturn

import cv2
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS, TASK_UTILS
from mmengine.logging import print_log

from ..errors import RefusedError
from ..transforms.checks import check_probability
from ..transforms.decoding import EXIF_MODES, BadImageError
from ..transforms.loading import RTMLoadImageFromFile
from ..transforms.walk import walk_transforms
from .bad_samples import BadSamples
from .coco_file import category_ids, format_doubt, read_coco_file, read_usable_images, unusable_boxes
from .mask_annotations import unusable_masks

POLICIES = ('skip', 'raise')


@DATASETS.register_module()
class RTMCocoDataset(CocoDataset):
    """COCO dataset with the arguments of mmdet's `CocoDataset` and four more.

    A sample is bad if its image can't be read, is truncated, or has another size than the annotation file states, or
    if its entries in that file are invalid (see `coco_file.py`).

    Args:
        on_bad_sample: `'skip'`: log a bad sample. Training replaces it by another one; in test mode the detector gets
            a grey image instead, so that its objects count as missed and it can't raise AP. `'raise'`: a bad sample
            is an error, and so is a box that can't be learned from. Invalid entries in the annotation file of a test
            set are always an error.
        max_bad_share: share of bad samples, from 0 to 1, above which `'skip'` stops the run and lists them.
        exif: how images with an EXIF orientation were annotated, see `decoding.decode`: `'as_annotated'`,
            `'turned'` or `'stored'`.
        batch_shapes_cfg: config of mmyolo's `BatchShapePolicy`, which orders the images by their shape and gives each
            batch its own size; for mmyolo's `LetterResize`, in test mode.

    `metainfo` may hold `classes` (names, in the order of the labels; a subset trains on these only),
    `palette` and any other key. With `lazy_init` the classes are known as soon as `metainfo` is read
    and the file exists.

    Raises:
        RefusedError: if an argument is out of its range, the annotation file is broken or empty, it lacks a class,
            it has no object to train on, the filter leaves no image to train on, or too many samples are bad.
        FileNotFoundError: if there is no such file.
    """

    METAINFO: dict = {}

    def __init__(
        self,
        *args: Any,
        on_bad_sample: str = 'skip',
        max_bad_share: float = 0.05,
        exif: str = 'as_annotated',
        batch_shapes_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if on_bad_sample not in POLICIES:
            raise RefusedError(f'on_bad_sample must be one of {POLICIES}, got {on_bad_sample!r}.')
        if exif not in EXIF_MODES:
            raise RefusedError(f'exif must be one of {EXIF_MODES}, got {exif!r}.')
        self.on_bad_sample = on_bad_sample
        self.max_bad_share = check_probability('max_bad_share', max_bad_share)
        self.exif = exif
        self.batch_shapes_cfg = batch_shapes_cfg
        self._num_listed = 0
        self._examined: Any = None  # pipeline for which `_partners_needed` is known
        self._partners_needed = False
        super().__init__(*args, **kwargs)

    @property
    def metainfo(self) -> dict:
        """A copy of the meta information, with `classes` from the file unless they are configured."""
        # mmdet's DetInferencer builds the test set lazily for its palette, on machines that may not have the data.
        if 'classes' not in self._metainfo and osp.isfile(self.ann_file):
            self.full_init()
        return super().metainfo

    @property
    def num_samples(self) -> int:
        """Number of samples in the annotation file, including skipped and filtered ones."""
        return max(self._num_listed, len(self))

    def prepare_data(self, idx: int) -> dict | None:
        """Run a sample through the pipeline.

        Returns:
            The pipeline's result. `None` in training, so that another sample is drawn, if this one is bad or the
            pipeline returns None.

        Raises:
            BadImageError, OSError: if the sample is bad and `on_bad_sample='raise'`; in test mode also if the pipeline
                fails even with a grey image of that size.
            BadSamplesError: if too many samples are bad.
        """
        data_info = {**self.get_data_info(idx), 'exif': self.exif}
        path = data_info['img_path']
        try:
            return self._run_pipeline(data_info)
        except (BadImageError, OSError, cv2.error) as error:
            if self.on_bad_sample == 'raise':
                _refuse(path, error)
            self.bad_samples.report(path, error)
            self.bad_samples.check_share(self.num_samples)
        if not self.test_mode:
            return None
        try:
            return self._run_pipeline({**self.get_data_info(idx), 'blank': True})
        except cv2.error as error:  # the fault is its size: it would be resized to zero pixels
            _refuse(path, error)

    def _run_pipeline(self, results: dict) -> dict | None:
        """Run the pipeline, with `RTMLoadImageFromFile` in place of mmdet's loader."""
        if self._loads_partners():
            results['dataset'] = self
        for step in self.pipeline.transforms:
            results = RTMLoadImageFromFile.in_place_of(step)(results)
            if results is None:
                return None
        return results

    def _loads_partners(self) -> bool:
        """Return whether mosaic or MixUp of mmyolo, without a cache, load their partners from the dataset."""
        if self._examined is not self.pipeline:  # at the first sample, and after the switch to stage 2
            steps = walk_transforms(self.pipeline)
            self._partners_needed = any(getattr(step, 'use_cached', True) is False for step in steps)
            self._examined = self.pipeline
        return self._partners_needed

    def load_data_list(self) -> list[dict]:
        """Read the annotation file into one dict per image, in the order of the file."""
        self.bad_samples = BadSamples(self.ann_file, self.max_bad_share)
        if self.test_mode or self.on_bad_sample == 'raise':
            content = read_coco_file(self.ann_file, self.backend_args, annotated=not self.test_mode)
        else:
            content = self._read_usable_images()
        ids = category_ids(content['categories'], self._metainfo.get('classes'), self.ann_file)
        self._metainfo['classes'] = tuple(ids)
        self._check_palette()
        self.cat_ids = list(ids.values())
        self.cat2label = {category_id: label for label, category_id in enumerate(self.cat_ids)}

        if not self.test_mode and any(getattr(step, 'with_mask', False) for step in walk_transforms(self.pipeline)):
            content = self._without_unusable_masks(content)
        annotations = defaultdict(list)
        self.cat_img_map = defaultdict(list)
        for annotation in content['annotations']:
            annotations[annotation['image_id']].append(annotation)
            self.cat_img_map[annotation['category_id']].append(annotation['image_id'])

        data_list = [
            self.parse_data_info(
                {'raw_img_info': {**image, 'img_id': image['id']}, 'raw_ann_info': annotations[image['id']]}
            )
            for image in content['images']
        ]
        doubt = format_doubt(content['images'], content['annotations'])
        if self.test_mode:
            self._warn_of_order(content['categories'])
        else:
            self._warn_of_unusable(content)
            self._check_used(data_list, doubt)
        self._warn_of_format(doubt)
        return TASK_UTILS.build(self.batch_shapes_cfg)(data_list) if self.batch_shapes_cfg else data_list

    def filter_data(self) -> list[dict]:
        """Apply `filter_cfg`, as mmdet does.

        Raises:
            RefusedError: if no image is left.
        """
        kept = super().filter_data()
        if not self.test_mode and (self.filter_cfg or {}).get('filter_empty_gt', False):
            kept = [data_info for data_info in kept if data_info['instances']]
        if not kept:
            raise RefusedError(
                f'{self.ann_file}: filter_cfg must leave at least one of {len(self.data_list)} images, got none with '
                f'{self.filter_cfg}; lower min_size, or check that objects of {self._metainfo["classes"]} exist.'
            )
        return kept

    def _read_usable_images(self) -> dict[str, list[dict]]:
        content, bad = read_usable_images(self.ann_file, self.backend_args)
        self._num_listed = len(content['images']) + len(bad)
        for name, message in bad.items():
            path = osp.join(self.data_prefix['img'], name)
            self.bad_samples.report(path, f'{path}: {message}')
        self.bad_samples.check_share(self._num_listed)
        return content

    def _check_palette(self) -> None:
        palette, count = self._metainfo.get('palette'), len(self._metainfo['classes'])
        if isinstance(palette, Sequence) and not isinstance(palette, str) and len(palette) != count:
            raise RefusedError(f"metainfo['palette'] must have {count} colours, one per class, got {len(palette)}.")

    def _warn_of_unusable(self, content: dict[str, list[dict]]) -> None:
        lost = unusable_boxes(content['images'], content['annotations'])
        if not lost:
            return
        message = (
            f'{self.ann_file}: {len(lost)} of {len(content["annotations"])} boxes lie outside their image, are less '
            f'than a pixel wide or high, or have area 0; {{}}. Ids of annotations: {lost[:20]}.'
        )
        if self.on_bad_sample == 'raise':
            raise RefusedError(message.format("with on_bad_sample='raise' there must be none"))
        print_log(message.format('they are skipped'), logger='current', level=logging.WARNING)

    def _without_unusable_masks(self, content: dict[str, list[dict]]) -> dict[str, list[dict]]:
        """Mark objects without a usable mask as crowds; return the lists without the images that have no other object.

        No loss uses crowds, so they are trained as background.
        """
        names = {image['id']: image['file_name'] for image in content['images']}
        objects = [
            annotation
            for annotation in content['annotations']
            if annotation['image_id'] in names and annotation['category_id'] in self.cat2label
            if not annotation['iscrowd']
        ]
        lost = unusable_masks(content['images'], objects)
        if not lost:
            return content
        ids = {number for numbers in lost.values() for number in numbers}
        reasons = '; '.join(f'{len(numbers)} {reason}, ids {numbers[:20]}' for reason, numbers in lost.items())
        message = f'{self.ann_file}: {len(ids)} of {len(objects)} objects have no mask to learn from ({reasons}); {{}}.'
        if len(ids) == len(objects):
            wanted = 'the pipeline loads masks: add or correct them in the file, or train a config without masks'
            raise RefusedError(message.format(wanted))
        if self.on_bad_sample == 'raise':
            raise RefusedError(message.format("with on_bad_sample='raise' there must be none"))
        for annotation in objects:
            annotation['iscrowd'] = int(annotation['id'] in ids)
        shown = {annotation['image_id'] for annotation in objects if not annotation['iscrowd']}
        skipped = {annotation['image_id'] for annotation in objects} - shown
        action = 'they are trained as background'
        if skipped:
            action += f', and images with no other object are skipped: {len(skipped)}'
        print_log(message.format(action), logger='current', level=logging.WARNING)
        for number in skipped:
            path = osp.join(self.data_prefix['img'], names[number])
            self.bad_samples.report(path, f'{path}: an object must have a mask, got none that can be used')
        self.bad_samples.check_share(self._num_listed)
        return {**content, 'images': [image for image in content['images'] if image['id'] not in skipped]}

    def _warn_of_format(self, doubt: str) -> None:
        if doubt and self.on_bad_sample == 'raise':
            raise RefusedError(f'{self.ann_file}: {doubt}')
        if doubt:
            print_log(f'{self.ann_file}: {doubt}', logger='current', level=logging.WARNING)

    def _check_used(self, data_list: list[dict], doubt: str) -> None:
        instances = [instance for data_info in data_list for instance in data_info['instances']]
        used = {instance['bbox_label'] for instance in instances if not instance['ignore_flag']}
        if not used:
            # The training pipelines would drop one image after the other, until mmengine gives up.
            raise RefusedError(
                f'{self.ann_file} must have an object to train on, got none in {len(data_list)} images. It must be of '
                f'{self._metainfo["classes"]}, at least one pixel wide and high, not outside its image, and no crowd. '
                f'List background images in the same file as the objects that they are trained with. {doubt}'.strip()
            )
        names = [name for label, name in enumerate(self._metainfo['classes']) if label not in used]
        if names:
            print_log(
                f'{self.ann_file}: {len(names)} of {len(self.cat_ids)} classes have no object to learn from: {names}.',
                logger='current',
                level=logging.WARNING,
            )

    def _warn_of_order(self, categories: list[dict]) -> None:
        file_order = [category['id'] for category in categories if category['id'] in self.cat2label]
        if file_order != self.cat_ids:
            print_log(
                f"{self.ann_file}: its categories are in another order than the labels; mmdet's CocoMetric "
                'would confuse the classes. Evaluate with RTMCocoMetric.',
                logger='current',
                level=logging.WARNING,
            )


def _refuse(path: str, error: Exception) -> NoReturn:
    """Raise the error with the file's name, which OpenCV's errors lack."""
    if path in str(error):
        raise error
    raise BadImageError(
        f'{path} must be an image that the pipeline can process, got an error: {" ".join(str(error).split())}.'
    ) from error
