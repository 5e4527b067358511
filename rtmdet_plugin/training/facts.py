"""The facts that the numbers of a training follow from: its data, its model, and this machine."""

from __future__ import annotations

from mmengine.config import Config

from rtmdet_runtime.cpu_cores import available_cores

from ..config.augmentation import augmentation_of
from ..config.pipelines import preprocessing
from ..inference.device import device_type
from .fit_to_data import Facts, facts_about
from .memory import Memory, step_memory


def facts_of(
    content: dict[str, list[dict]],
    config: Config,
    *,
    pretrained: bool,
    known: bool,
    amp: bool = False,
    processes: int = 1,
) -> Facts:
    """Return the facts about a training.

    Args:
        content: COCO's lists of the training split.
        config: config of the model.
        pretrained: whether the training starts from a detector's weights.
        known: whether these already detect all classes of the data.
        amp: whether it computes in bfloat16.
        processes: number of processes, one for each GPU.
    """
    device = device_type()

    def memory(size: int) -> Memory | None:
        if device == 'cuda' and processes > 1:  # this process must not take memory of the GPU that another will use
            return None
        found = step_memory(config.model, size, device, amp)
        return found and found._replace(free=found.free / processes)

    return facts_about(
        content,
        default_augmentation=augmentation_of(config),
        default_size=max(preprocessing(config)['input_size']),
        pretrained=pretrained,
        known=known,
        device=device,
        cores=available_cores(),
        processes=processes,
        step_memory=memory,
    )
