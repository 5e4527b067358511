"""TCP connections between processes that detect when one of them has ended.

NCCL doesn't notice that a process was killed: the other processes wait in their next communication until its timeout,
ten minutes by default. A shorter timeout isn't possible, because an evaluation may take that long. The kernel notices
immediately: it closes the TCP connections of a process that ends for any reason, and keeps those of a slow process
open. So each process holds a connection to the main process and waits until it is closed. If a machine fails without
closing its connections, TCP's keepalive probes detect this within 30 seconds.
"""

import atexit
import os
import secrets
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

GOODBYE = b'.'
PROBES = dict(TCP_KEEPIDLE=10, TCP_KEEPINTVL=5, TCP_KEEPCNT=4)  # seconds, seconds, count; Linux's names
CONNECT_SECONDS = 30


class Address(NamedTuple):
    """Address at which the main process listens, and the password for it."""

    host: str
    port: int
    password: str


class Lifeline:
    """One process's side of the connections.

    The main process calls `listen`, the others call `join` with the address that it returns.

    Args:
        rank: rank of this process; 0 is the main process.
        on_loss: called once, in a thread, with a sentence that names the lost process.
    """

    def __init__(self, rank: int, on_loss: Callable[[str], None]) -> None:
        self._rank = rank
        self._on_loss = on_loss
        self._peers: dict[socket.socket, str] = {}
        self._server: socket.socket | None = None
        self._closed = threading.Event()
        self._selector = selectors.DefaultSelector()
        # A forked worker of a data loader inherits the connections, and would keep them open.
        os.register_at_fork(after_in_child=self._close_sockets)
        atexit.register(self._close_at_exit)

    def listen(self, host: str) -> Address:
        """Let the other processes join.

        Args:
            host: name of this machine that the other processes can resolve.

        Returns:
            The address for `join`.
        """
        self._server = socket.create_server(('', 0))
        self._password = secrets.token_hex(16)
        self._selector.register(self._server, selectors.EVENT_READ)
        threading.Thread(target=self._watch, name='lifeline', daemon=True).start()
        return Address(host, self._server.getsockname()[1], self._password)

    def join(self, address: Address) -> None:
        """Connect to the main process.

        Raises:
            OSError: if the connection fails.
        """
        connection = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
        name = f'{self._rank} {socket.gethostname()} {os.getpid()}'
        connection.sendall(f'{address.password} {name}\n'.encode())
        self._add(connection, 'process 0, the main one,')
        threading.Thread(target=self._watch, name='lifeline', daemon=True).start()

    def close(self) -> None:
        """Announce the end of this process, so that the others don't consider it lost."""
        if not self._closed.is_set():
            self._closed.set()
            for peer in list(self._peers):
                _send(peer, GOODBYE)
            self._close_sockets()

    def _close_at_exit(self) -> None:
        """Close if the interpreter exits on purpose (all processes stop after a signal), not after an error."""
        if not hasattr(sys, 'last_type'):  # set if the interpreter has printed an uncaught exception
            self.close()

    def _add(self, connection: socket.socket, name: str) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in PROBES.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._peers[connection] = name
        self._selector.register(connection, selectors.EVENT_READ)

    def _watch(self) -> None:
        """Process new connections, messages and closed connections until `close` is called."""
        while not self._closed.is_set():
            try:
                files = [key.fileobj for key, _ in self._selector.select(timeout=1)]
            except (OSError, ValueError):  # closed meanwhile
                return
            for ready in [file for file in files if isinstance(file, socket.socket)]:  # all are
                if ready is self._server:
                    self._accept(ready)
                elif lost := self._receive(ready):
                    for peer in self._peers:
                        _send(peer, lost.encode())
                    if not self._closed.is_set():
                        self._on_loss(lost)
                    return

    def _accept(self, server: socket.socket) -> None:
        """Accept the connection of a process that sends the password."""
        try:
            connection, _ = server.accept()
            connection.settimeout(CONNECT_SECONDS)
            password, rank, host, pid = connection.makefile('rb', buffering=0).readline(200).decode().split()
        except (OSError, ValueError):
            return
        if secrets.compare_digest(password, self._password):
            self._add(connection, f'process {rank} on {host} (pid {pid})')

    def _receive(self, peer: socket.socket) -> str:
        """Return a sentence that names the lost process, or an empty string if none is lost."""
        try:
            text = peer.recv(1000)
        except OSError:
            text = b''
        if text and text != GOODBYE:
            return text.decode()
        self._selector.unregister(peer)
        name = self._peers.pop(peer)
        return '' if text else f'{name} has ended in the middle of the run'

    def _close_sockets(self) -> None:
        """Close all sockets without announcing it."""
        for connection in (*self._peers, *filter(None, [self._server])):
            connection.close()


def _send(peer: socket.socket, text: bytes) -> None:
    with suppress(OSError):  # if that process has ended as well
        peer.sendall(text)
