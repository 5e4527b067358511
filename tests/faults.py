"""Simulate a full disk or a killed process at the n-th disk operation."""

import builtins
import errno
import os
from collections.abc import Callable

from rtmdet_runtime import atomic_files

KILLED = 77


class Faults:
    """Count disk operations and let the `at`-th one fail; -1 lets none fail."""

    def __init__(self, monkeypatch, fail: Callable[[], None], at: int = -1) -> None:
        self.fail, self.at, self.done = fail, at, 0
        monkeypatch.setattr(atomic_files, 'open', self.open, raising=False)
        for name in ('fsync', 'replace', 'remove', 'unlink'):
            original = getattr(os, name)
            monkeypatch.setattr(
                os, name, lambda *args, original=original, **kw: (self.step(), original(*args, **kw))[1]
            )

    def step(self) -> None:
        self.done += 1
        if self.done - 1 == self.at:
            self.fail()

    def open(self, *args):
        self.step()
        return TornFile(builtins.open(*args), self.step)


class TornFile:
    """A file that writes its content to the disk in three parts."""

    def __init__(self, file, step) -> None:
        self.file, self.step = file, step

    def write(self, content: bytes) -> None:
        third = -(-len(content) // 3) or 1
        for start in range(0, len(content), third):
            self.file.write(content[start : start + third])
            self.file.flush()
            self.step()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill() -> None:
    os._exit(KILLED)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a fork of this process; return its exit code, which is 1 after an exception."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
