"""Keep the recommended score threshold of a checkpoint in a file next to it, for its export."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rtmdet_runtime.output import write_json

NAME = 'recommended.json'


def save_recommended(checkpoint: Path, score_thr: float, f1: float) -> None:
    """Write the recommended score threshold of a checkpoint to `recommended.json` in its folder.

    Raises:
        OSError: if it can't be written.
    """
    write_json(checkpoint.with_name(NAME), dict(checkpoint=checkpoint.name, score_thr=score_thr, f1=f1))


def recommended_score_thr(checkpoint: Path) -> float | None:
    """Return the recommended score threshold of a checkpoint; None if there is none for exactly this file.

    Raises:
        ValueError: if `recommended.json` isn't valid.
    """
    file = checkpoint.with_name(NAME)
    try:
        content = json.loads(file.read_bytes())
        named, score_thr = content['checkpoint'], content['score_thr']
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f'{file} must be JSON with checkpoint and score_thr; repair or remove it') from None
    if named != checkpoint.name:
        return None
    if not isinstance(score_thr, float | int) or not math.isfinite(score_thr):
        raise ValueError(f'score_thr in {file} must be a number, got {score_thr!r}; repair or remove it')
    return score_thr
