"""mmdeploy 1.3.1 on today's stack: function rewriters, backends, and what its tools/deploy.py does.

Nothing here imports mmdeploy before it is used: `rtmdet_plugin` works without it.
"""
