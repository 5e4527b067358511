"""Schedules of the learning rate."""

from .flat_cosine import RTMFlatCosineLR

__all__ = ['RTMFlatCosineLR']
