"""Predict in PyTorch, and measure the accuracy and latency of trained and exported models."""
