"""mmengine's backend for local files, with atomic writes."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from rtmdet_runtime.atomic_files import write_atomically

ATOMIC = dict(backend='rtm_atomic')
"""`backend_args` of a hook that writes with `AtomicLocalBackend`."""


@register_backend(ATOMIC['backend'])
class AtomicLocalBackend(LocalBackend):
    """Write local files atomically; `backend_args=ATOMIC` of a hook selects it."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write `obj` to `filepath`; see `write_atomically`."""
        write_atomically(filepath, obj)
