"""The commands of `rtmdet`, one click command per file.

This package isn't part of `rtmdet_plugin`, whose import loads PyTorch. A command imports heavy packages only when it
runs, so its help appears at once.
"""
