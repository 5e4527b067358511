"""Checkpoint files: written whole or not at all, looked for, and published."""
