"""Download an image or a video from the web, without following redirects into a private network."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
    getproxies,
)

from ..atomic_files import naming

TIMEOUT = 20
"""Seconds without data after which a download fails."""
MAX_BYTES = 2 * 2**30
"""Maximum size of a download."""
CHUNK = 2**20
PORTS = dict(http=80, https=443)


@contextlib.contextmanager
def downloaded(address: str) -> Iterator[IO[bytes]]:
    """Give the content of an http(s) address as a temporary file.

    The file has no name, so that even a process that is killed doesn't leave it.

    The address itself may be in a private network, but it can't redirect to one: a page from outside could otherwise
    read what only this machine can reach.

    Raises:
        OSError: if it can't be read, redirects to a private address, or has more than `MAX_BYTES`.
    """
    with tempfile.TemporaryFile() as file:
        try:
            with opener(address).open(Request(address, headers={'User-Agent': 'rtmdet'}), timeout=TIMEOUT) as response:
                _receive(response, file, address)
        except HTTPError as error:
            raise OSError(f'{address} can not be read: the server answers {error.code} {error.reason}') from None
        except URLError as error:
            reason = getattr(error.reason, 'strerror', None) or error.reason
            raise OSError(f'{address} can not be read: {reason}') from None
        except (http.client.HTTPException, TimeoutError, ConnectionError, UnicodeError) as error:
            raise OSError(f'{address} can not be read: {error or type(error).__name__}') from None
        file.seek(0)
        yield file


def _receive(response: http.client.HTTPResponse, file: IO[bytes], address: str) -> None:
    length = response.headers['Content-Length'] or ''
    limit = f'{address} must have at most {MAX_BYTES:,} bytes, got'
    if length.isdecimal() and int(length) > MAX_BYTES:
        raise OSError(f'{limit} {int(length):,}')
    with naming(tempfile.gettempdir()):
        while chunk := response.read(CHUNK):
            file.write(chunk)
            if file.tell() > MAX_BYTES:
                raise OSError(f'{limit} more')
        file.flush()
    if length.isdecimal() and file.tell() < int(length):
        raise http.client.IncompleteRead(b'', int(length) - file.tell())


def opener(address: str):
    """Return an opener that connects to private addresses only first, for the address itself, and for a proxy."""
    proxies = getproxies()
    peers = Peers({_place(proxies[scheme]) for scheme in PORTS if proxies.get(scheme)})
    return build_opener(ProxyHandler(), _HTTPHandler(peers), _HTTPSHandler(peers), _OnlyWeb())


def _place(address: str) -> tuple[str | None, int | None]:
    parts = urlsplit(address if '://' in address else f'http://{address}')
    return parts.hostname, parts.port or PORTS.get(parts.scheme)


class Peers:
    """Check which machines the connections for one address have reached.

    Names are not resolved again for the check, and only the IP address of the first connection is trusted, because a
    name could have another address a moment later.

    Args:
        proxies: hosts and ports of proxies, which are trusted.
    """

    def __init__(self, proxies: set) -> None:
        self.proxies = proxies
        self.first: tuple[str, int] | None = None

    def check(self, connected: socket.socket, host: str, port: int) -> None:
        """Raise an `OSError` if a socket is connected to a private address that isn't trusted."""
        peer = connected.getpeername()[0]
        if self.first is None:
            self.first = peer, port
        if (peer, port) == self.first or (host.lower(), port) in self.proxies:
            return
        if not ipaddress.ip_address(peer.partition('%')[0]).is_global:
            connected.close()
            raise OSError(f'it redirects to {host}:{port}, which is in a private network ({peer})')


class _OnlyWeb(HTTPRedirectHandler):
    """Follow redirects to http(s), and not to ftp."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Return the next request; see `HTTPRedirectHandler`."""
        if urlsplit(newurl).scheme not in PORTS:
            raise URLError(f'it redirects to {newurl}, which is not http(s)')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _HTTPHandler(HTTPHandler):
    def __init__(self, peers: Peers) -> None:
        super().__init__()
        self.peers = peers

    def http_open(self, req):
        """Open a connection; see `HTTPHandler`."""
        return self.do_open(partial(_connect, http.client.HTTPConnection, self.peers), req)


class _HTTPSHandler(HTTPSHandler):
    def __init__(self, peers: Peers) -> None:
        super().__init__()
        self.peers = peers

    def https_open(self, req):
        """Open a connection; see `HTTPSHandler`."""
        return self.do_open(partial(_connect, http.client.HTTPSConnection, self.peers), req)


def _connect(kind: type[http.client.HTTPConnection], peers: Peers, host: str, **settings) -> http.client.HTTPConnection:
    """Return a connection of urllib that checks which address it has reached, before it sends anything."""

    class Connection(kind):
        def connect(self) -> None:
            super().connect()
            peers.check(self.sock, self.host, self.port)

    return Connection(host, **settings)
