"""Trained and exported models in use: prediction in PyTorch, evaluation, latency."""
