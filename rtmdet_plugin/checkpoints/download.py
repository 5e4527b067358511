"""Download a file: interrupted downloads are continued, the content is verified, and the file appears only complete."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rtmdet_runtime.atomic_files import FULL, PARTIAL

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TIMEOUT = 30  # seconds without data
CHUNK = 2**20


class DownloadError(OSError):
    """A download has failed; the message has the reason. What was received is kept, to continue later."""


def download(address: str, file: Path, sha256: str) -> None:
    """Download a file.

    A lost connection is opened again as long as each attempt brings data. Of two processes that download the same
    file, one waits for the other.

    Args:
        address: http(s) address.
        file: file to write; its folder is created if necessary.
        sha256: first hexadecimal digits of the content's SHA-256.

    Raises:
        DownloadError: if the address can't be read, or the content has another SHA-256.
        OSError: if the file can't be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f'.{file.name}{PARTIAL}')
    with _locked(partial) as written:
        if file.is_file():  # another process has finished it meanwhile
            return
        if not partial.is_file():
            raise DownloadError('another process has tried too, without success')
        print(f'Downloading {address} to {file}', file=sys.stderr)
        resumed = written.tell() > 0
        _receive_all(address, written)
        if resumed and not _matches(partial, sha256):  # the earlier part may be of another server's page
            written.truncate(0)
            _receive_all(address, written)
        if not _matches(partial, sha256):
            written.truncate(0)
            raise DownloadError(f'its SHA-256 must begin with {sha256}, got another file')
        os.fsync(written.fileno())  # before the rename, or a power cut could leave the name without its content
        os.replace(partial, file)


@contextlib.contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """Open the partial file to append to it, by one process at a time; it is removed if it stays empty."""
    with open(partial, 'ab') as written:
        if fcntl is not None:
            fcntl.flock(written, fcntl.LOCK_EX)
        try:
            written.seek(0, os.SEEK_END)
            yield written
        finally:
            if written.seek(0, os.SEEK_END) == 0:
                partial.unlink(missing_ok=True)


def _receive_all(address: str, written: BinaryIO) -> None:
    """Append what is missing, in as many connections as bring data."""
    while True:
        before = written.seek(0, os.SEEK_END)
        try:
            return _receive(address, written)
        except HTTPError as error:
            raise DownloadError(f'the server answers {error.code} {error.reason}') from None
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise OSError(error.errno, error.strerror, written.name) from None
            if written.seek(0, os.SEEK_END) <= before:
                reason = getattr(error, 'reason', error)  # of an URLError
                raise DownloadError(getattr(reason, 'strerror', None) or str(reason)) from None


def _receive(address: str, written: BinaryIO) -> None:
    """Append what is missing, in one connection."""
    start = written.tell()
    headers = {'User-Agent': 'rtmdet_plugin', 'Accept-Encoding': 'identity'}
    headers |= {'Range': f'bytes={start}-'} if start else {}
    try:
        response = urlopen(Request(address, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return  # nothing is missing, as the SHA-256 will show
        raise
    with response:
        if start and response.status != http.client.PARTIAL_CONTENT:
            written.truncate(0)  # a server that sends the complete file
            start = written.seek(0)
        length = response.headers['Content-Length']
        end = start + int(length) if length else None
        while chunk := response.read(CHUNK):
            written.write(chunk)
            written.flush()
            if end and sys.stderr.isatty():
                print(f'\r{written.tell() / end:.0%} of {end / 1e6:.0f} MB', end='', file=sys.stderr)
        if end and sys.stderr.isatty():
            print(file=sys.stderr)
        if end is not None and written.tell() < end:
            raise http.client.IncompleteRead(b'', end - written.tell())


def _matches(file: Path, sha256: str) -> bool:
    digest = hashlib.sha256()
    with open(file, 'rb') as content:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest().startswith(sha256)
