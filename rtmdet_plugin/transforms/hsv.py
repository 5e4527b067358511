"""Random shifts of hue, saturation and value in 8 bits: a look-up table for hue, saturating arithmetic for the others.

Arguments and distribution are those of mmdet's `YOLOXHSVRandomAug`, which computes in 16 bits; for the same random
numbers the pixels are the same. Differences:

- If all three shifts are 0, the image stays unchanged. mmdet's still goes through HSV and back, which moves colours by
  a few levels.
- Images that aren't 8-bit colour are refused.
"""

from __future__ import annotations

import cv2
import numpy as np
from mmdet.registry import TRANSFORMS

from .checks import check_at_least
from .random_transform import RandomSource, RandomTransform

HUES = 180
"""Number of hues in OpenCV's 8-bit HSV: half of the angle in degrees."""


def shift_hsv(img: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    """Shift an image's hue (modulo the colour circle), saturation and value (clipped to 0 to 255).

    Args:
        img: BGR, uint8; not modified. (H, W, 3)
        hue: shift in steps of two degrees.
        saturation: shift in steps of 1/255.
        value: shift in steps of 1/255.

    Returns:
        BGR, uint8, (H, W, 3); `img` itself if all shifts are 0.
    """
    if not hue and not saturation and not value:
        return img
    hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
    # Both operations saturate. One `cv2.add` of both signs would compute in 16 bits, which takes three times as long.
    for operation, sign in ((cv2.add, 1), (cv2.subtract, -1)):
        shifts = max(sign * saturation, 0), max(sign * value, 0)
        if any(shifts):
            # OpenCV's types don't know that it combines each pixel with a colour.
            operation(hsv, (0, *shifts, 0), dst=hsv)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if hue:
        table = ((np.arange(256) + hue) % HUES).astype(np.uint8)
        cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), table), hsv, 0)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, dst=hsv)


@TRANSFORMS.register_module()
class RTMYOLOXHSVRandomAug(RandomTransform):
    """Shift hue, saturation and value, each with probability 0.5.

    Args:
        hue_delta: largest shift of the hue, in steps of two degrees. The shift is drawn from -delta to delta and
            truncated to an integer.
        saturation_delta: the same for saturation, in steps of 1/255.
        value_delta: the same for value.
        rng: source of all random numbers, see `RandomTransform`.

    Raises:
        ValueError: if an argument isn't an integer of at least 0.
    """

    def __init__(
        self,
        hue_delta: int = 5,
        saturation_delta: int = 30,
        value_delta: int = 30,
        *,
        rng: RandomSource | None = None,
    ) -> None:
        super().__init__(rng)
        self.hue_delta = check_at_least('hue_delta', hue_delta, 0)
        self.saturation_delta = check_at_least('saturation_delta', saturation_delta, 0)
        self.value_delta = check_at_least('value_delta', value_delta, 0)

    def draw(self) -> tuple[int, int, int]:
        """Draw the shifts of hue, saturation and value."""
        deltas = (self.hue_delta, self.saturation_delta, self.value_delta)
        hue, saturation, value = (int(self.rng.uniform(-1, 1) * delta) * self.rng.randrange(2) for delta in deltas)
        return hue, saturation, value

    def transform(self, results: dict) -> dict:
        """Shift the colours of `img`.

        Raises:
            ValueError: if `img` isn't 8-bit colour.
        """
        img = results['img']
        if img.dtype != np.uint8 or img.shape[2:] != (3,):
            raise ValueError(
                f'{results.get("img_path", "The image")} must be loaded as uint8 of (H, W, 3), got {img.dtype} of '
                f"{img.shape}; set color_type='color' and to_float32=False in LoadImageFromFile."
            )
        results['img'] = shift_hsv(img, *self.draw())
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(hue_delta={self.hue_delta}, saturation_delta={self.saturation_delta}, '
            f'value_delta={self.value_delta})'
        )
