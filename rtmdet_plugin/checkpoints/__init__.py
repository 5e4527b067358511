"""Checkpoint files: atomic writing, loading, comparing, publishing, and the choice of the one to resume from."""
