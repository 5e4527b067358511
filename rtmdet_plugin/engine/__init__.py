"""Hooks, runner, optimisers, schedulers and visualization of a training, in the same packages as mmdet's `engine`."""
