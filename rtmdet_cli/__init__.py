"""The commands of `rtmdet`, one click command a file.

Outside `rtmdet_plugin`, whose import brings PyTorch: what a command needs is imported when it runs, not for its help.
"""
