"""Access to the loops that a run has already built."""

from mmengine.runner import BaseLoop, Runner


def built_loops(runner: Runner) -> dict[str, BaseLoop]:
    """Return the loops that this run has built, by their names: 'train', 'val' and 'test', in this order."""
    # The private attributes, because the public properties would build a missing loop.
    loops = dict(train=runner._train_loop, val=runner._val_loop, test=runner._test_loop)
    return {name: loop for name, loop in loops.items() if isinstance(loop, BaseLoop)}
