"""mmdet's own RTMDet, exported as mmdeploy 1.3.1 does it out of the box: what an export is compared with.

    python benchmarks/mmdeploy_baseline.py --sizes tiny s --out outputs/mmdeploy_baseline

mmdeploy's wheel ships no configs. `stock_config` spells out what its repository has as
configs/mmdet/detection/detection_onnxruntime_static.py and what that inherits. Two things it takes on today's stack:
`legacy_onnx_export`, because mmdeploy fails in torch's dynamo exporter, and `import rtmdet_plugin`, because mmdet needs
mmcv's compiled NMS otherwise. Weights are random where no checkpoint is given: the network takes the same time with
them, the NMS doesn't, because few scores pass its threshold.
"""

import argparse
from pathlib import Path

import cv2
import mmdet
import numpy as np
import torch
from mmengine.config import Config

import rtmdet_plugin  # noqa: F401
from rtmdet_plugin.compat.onnx_export import legacy_onnx_export

MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet'


def stock_config(size: tuple[int, int] | None = (640, 640)) -> Config:
    """mmdeploy's deploy config for ONNX Runtime.

    Args:
        size: width and height of a static graph; None for the dynamic one (batch, height and width).
    """
    onnx_config = dict(
        type='onnx',
        export_params=True,
        keep_initializers_as_inputs=False,
        opset_version=11,
        save_file='end2end.onnx',
        input_names=['input'],
        output_names=['dets', 'labels'],
        input_shape=size,
        optimize=True,
    )
    if size is None:
        axes = {0: 'batch', 1: 'num_dets'}
        onnx_config['dynamic_axes'] = dict(input={0: 'batch', 2: 'height', 3: 'width'}, dets=axes, labels=axes)
    post_processing = dict(
        score_threshold=0.05,
        confidence_threshold=0.005,
        iou_threshold=0.5,
        max_output_boxes_per_class=200,
        pre_top_k=5000,
        keep_top_k=100,
        background_label_id=-1,
    )
    codebase_config = dict(type='mmdet', task='ObjectDetection', model_type='end2end', post_processing=post_processing)
    return Config(
        dict(onnx_config=onnx_config, codebase_config=codebase_config, backend_config=dict(type='onnxruntime'))
    )


def export_mmdet(
    size: str, folder: Path, *, checkpoint: Path | None = None, input_size: tuple[int, int] | None = (640, 640)
) -> Path:
    """Write mmdet's RTMDet of a size as `end2end.onnx`.

    Args:
        size: 'tiny', 's', 'm', 'l' or 'x'.
        folder: where to write.
        checkpoint: mmdet's weights; random ones where there are none.
        input_size: see `stock_config`.

    Returns:
        The ONNX file: input `input` (B, 3, H, W), normalised; outputs `dets` (B, K, 5) and `labels` (B, K).
    """
    from mmdeploy.apis import torch2onnx
    from mmdeploy.utils import get_root_logger

    get_root_logger().setLevel('ERROR')
    folder.mkdir(parents=True, exist_ok=True)
    model_cfg = Config.fromfile(MMDET_CONFIGS / f'rtmdet_{size}_8xb32-300e_coco.py')
    model_cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / 'picture.png'), picture)
    files = dict(work_dir=str(folder), save_file='end2end.onnx', model_checkpoint=checkpoint and str(checkpoint))
    with legacy_onnx_export():
        torch2onnx(
            str(folder / 'picture.png'),
            deploy_cfg=stock_config(input_size),
            model_cfg=model_cfg,
            device='cpu',
            **files,
        )
    return folder / 'end2end.onnx'


def main() -> None:
    """Export the sizes asked for and print the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', nargs='+', default=['tiny', 's'], choices=['tiny', 's', 'm', 'l', 'x'])
    parser.add_argument('--out', type=Path, default=Path('outputs/mmdeploy_baseline'))
    args = parser.parse_args()
    for size in args.sizes:
        print(export_mmdet(size, args.out / size))


if __name__ == '__main__':
    main()
