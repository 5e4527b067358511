"""Hooks, runner, optimisers and schedulers of a training, in the same packages as mmdet's `engine`."""
