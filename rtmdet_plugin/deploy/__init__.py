"""From a checkpoint to a model that runs without PyTorch. Importing this folder imports nothing else."""
