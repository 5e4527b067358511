"""Services that show the metrics of a run."""

from .mlflow_vis_backend import RTMMLflowVisBackend

__all__ = ['RTMMLflowVisBackend']
