"""Read and edit model configs by name: pipelines, their steps, the input size.

Nothing is built here, so a config may import these functions while it is read.
"""
