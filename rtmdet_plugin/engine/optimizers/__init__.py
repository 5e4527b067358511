"""Optimiser wrappers and their constructor."""

from .bfloat16_optim_wrapper import RTMBFloat16OptimWrapper
from .optim_wrapper_constructor import RTMOptimWrapperConstructor

__all__ = ['RTMBFloat16OptimWrapper', 'RTMOptimWrapperConstructor']
