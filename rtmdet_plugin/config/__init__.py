"""Read and edit model configs by name: pipelines, their steps, the input size; the learning rate.

Nothing is built here, so config files can import these functions.
"""
