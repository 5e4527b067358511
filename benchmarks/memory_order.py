"""Measure the precision of a training step in each memory order: a batch of the demo, float32 against float64.

    OMP_NUM_THREADS=1 python benchmarks/memory_order.py [--seeds 0 1 2] [--steps 0 40]

On CPUs, PyTorch's batch norm sums naively if activations are channels last (RTMChannelsLastHook). For each seed,
number of preceding training steps and memory order, this prints the error relative to float64 of

- the batch norms' running statistics after the step,
- the gradients of a loss that is linear in the network's outputs,
- the gradients of RTMDet's loss, and the share of positive priors that are assigned to another object than in float64:
  each of them changes the gradient by far more than rounding does,
- for comparison, the difference between the gradients of two batches, both in float64.

ONEDNN_MAX_CPU_ISA=AVX2 measures the convolutions of another CPU. Writes
benchmarks/results/memory_order_<device>_<machine>.json.
"""

import argparse
import copy
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from results import report
from torch import Tensor, nn

import rtmdet_plugin  # noqa: F401  registers the models
from rtmdet_plugin.datasets.seeded_fetch import fetch_by_place

DEMO = Path(__file__).resolve().parents[1] / 'projects' / 'demo'
ORDERS = {'contiguous': torch.contiguous_format, 'channels last': torch.channels_last}


def relative_error(values: Iterable[Tensor], exact: Iterable[Tensor]) -> float:
    """Return the norm of the difference over the norm of the exact values, over all tensors together."""
    difference = norm = 0.0
    for value, target in zip(values, exact, strict=True):
        difference += float((value.double() - target.double()).square().sum())
        norm += float(target.double().square().sum())
    return (difference / norm) ** 0.5


class Step:
    """One forward and backward pass and its results.

    Args:
        model: the model; a copy of it is used.
        data: a batch of the data loader.
        dtype: type of weights and activations.
        order: memory order of the weights; the activations follow.
    """

    def __init__(self, model: nn.Module, data: dict, dtype: torch.dtype, order: torch.memory_format) -> None:
        self.model = copy.deepcopy(model).to(dtype).to(memory_format=order).train()
        batch = self.model.data_preprocessor(copy.deepcopy(data), training=True)
        self.samples = batch['data_samples']
        self.outputs = self.model.bbox_head(self.model.extract_feat(batch['inputs'].to(dtype)))
        buffers = self.model.named_buffers()
        self.statistics = [b for name, b in buffers if name.endswith(('running_mean', 'running_var'))]

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Return the gradients of all weights."""
        return torch.autograd.grad(loss, list(self.model.parameters()), retain_graph=True)

    def linear_loss(self) -> Tensor:
        """Return a weighted sum of all outputs; the weights are the same for each dtype."""
        generator = torch.Generator().manual_seed(0)
        outputs = [level for branch in self.outputs for level in branch]
        return sum((level * torch.randn(level.shape, generator=generator)).sum() for level in outputs)

    def detection_loss(self) -> tuple[Tensor, Tensor]:
        """Return RTMDet's loss, and the object that each prior is assigned to, (B, N), -1 for none."""
        assigned = []
        head = self.model.bbox_head
        assign = head.assigner.assign_batch

        def record(*args):
            assigned.append(assign(*args))
            return assigned[0]

        head.assigner.assign_batch = record
        instances, metas = zip(*((sample.gt_instances, sample.metainfo) for sample in self.samples), strict=True)
        losses = head.loss_by_feat(*self.outputs, list(instances), list(metas))
        return sum(losses.values()), assigned[0].gt_index


def errors(model: nn.Module, data: dict, other: dict) -> list[dict]:
    """Compute the errors of a step on `data` in each memory order; `other` is another batch, for comparison."""
    exact = Step(model, data, torch.float64, torch.contiguous_format)
    loss, assigned = exact.detection_loss()
    linear, detection = exact.gradients(exact.linear_loss()), exact.gradients(loss)
    another = Step(model, other, torch.float64, torch.contiguous_format)
    between_batches = relative_error(another.gradients(another.detection_loss()[0]), detection)
    rows = []
    for name, order in ORDERS.items():
        step = Step(model, data, torch.float32, order)
        loss, found = step.detection_loss()
        positive = (assigned >= 0) | (found >= 0)
        rows.append(
            {
                'memory order': name,
                'running statistics': relative_error(step.statistics, exact.statistics),
                'gradients, linear loss': relative_error(step.gradients(step.linear_loss()), linear),
                "gradients, RTMDet's loss": relative_error(step.gradients(loss), detection),
                'gradients of another batch': between_batches,
                'positives assigned differently': float((assigned != found)[positive].double().mean()),
            }
        )
    return rows


def measure(config: Config, seed: int, measured: list[int]) -> list[dict]:
    """Train from random weights; compute the errors at the given numbers of steps."""
    torch.manual_seed(seed)
    model = MODELS.build(config.model)
    model.init_weights()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
    loader = {**config.train_dataloader, 'num_workers': 0, 'persistent_workers': False}
    rows = []
    loader = Runner.build_dataloader(loader, seed=seed)
    fetch_by_place(loader.dataset)  # as the training loop does
    batches = list(loader)  # one epoch
    for step, data in enumerate(batches[: max(measured) + 1]):
        if step in measured:
            start = dict(seed=seed, steps=step, isa=os.environ.get('ONEDNN_MAX_CPU_ISA', 'default'))
            rows += [start | row for row in errors(model, data, batches[step + 1])]
        batch = model.data_preprocessor(data, training=True)
        optimizer.zero_grad()
        sum(model.train().loss(batch['inputs'], batch['data_samples']).values()).backward()
        optimizer.step()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--steps', type=int, nargs='+', default=[0, 40], help='numbers of preceding training steps, up to 48'
    )
    args = parser.parse_args()
    init_default_scope('mmdet')
    sys.path.insert(0, str(DEMO))
    from generate import Settings, generate

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / 'data'
        generate(data, Settings())
        os.environ['RTMDET_DEMO_DATA'] = str(data)
        config = Config.fromfile(DEMO / 'rtmdet_demo.py')
        for seed in args.seeds:
            rows += measure(config, seed, args.steps)
    report('memory_order', rows)


if __name__ == '__main__':
    main()
