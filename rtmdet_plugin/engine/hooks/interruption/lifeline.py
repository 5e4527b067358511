"""A connection between processes that tells when one of them has gone.

NCCL doesn't notice that a process was killed: the others wait in their next exchange until its timeout, ten minutes by
default, and evaluation, which may take that long, forbids a shorter one. The kernel knows at once: it closes the TCP
connections of a process that ends, however it ends, and keeps answering for one that is merely slow. So each process
holds a connection to the main one and waits for its end. Of a machine that vanished without a word, TCP's own probes
find out within 30 seconds.
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
PROBES = dict(TCP_KEEPIDLE=10, TCP_KEEPINTVL=5, TCP_KEEPCNT=4)  # seconds, seconds, times: Linux's names
CONNECT_SECONDS = 30


class Address(NamedTuple):
    """Where the main process listens, and the word that it asks for."""

    host: str
    port: int
    password: str


class Lifeline:
    """The main process's end, or another one's.

    Args:
        rank: of this process; 0 is the main one.
        on_loss: called once, in a thread, with a sentence on who has gone.

    Attributes:
        address: of the main process; for the others to `join`.
    """

    def __init__(self, rank: int, on_loss: Callable[[str], None]) -> None:
        self._rank = rank
        self._on_loss = on_loss
        self._peers: dict[socket.socket, str] = {}
        self._server: socket.socket | None = None
        self._closed = threading.Event()
        self._selector = selectors.DefaultSelector()
        # A worker of a data loader is a copy of this process, and would keep its connections open.
        os.register_at_fork(after_in_child=self._drop)
        atexit.register(self._leave)

    def listen(self, host: str) -> Address:
        """Let the others join; `host` is the name that they know this machine by."""
        self._server = socket.create_server(('', 0))
        self._password = secrets.token_hex(16)
        self._selector.register(self._server, selectors.EVENT_READ)
        threading.Thread(target=self._watch, name='lifeline', daemon=True).start()
        return Address(host, self._server.getsockname()[1], self._password)

    def join(self, address: Address) -> None:
        """Connect with the main process.

        Raises:
            OSError: where that can't be done.
        """
        connection = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
        name = f'{self._rank} {socket.gethostname()} {os.getpid()}'
        connection.sendall(f'{address.password} {name}\n'.encode())
        self._add(connection, 'process 0, the main one,')
        threading.Thread(target=self._watch, name='lifeline', daemon=True).start()

    def close(self) -> None:
        """Say goodbye: what ends from now on isn't lost."""
        if not self._closed.is_set():
            self._closed.set()
            for peer in list(self._peers):
                _send(peer, GOODBYE)
            self._drop()

    def _leave(self) -> None:
        """At the interpreter's end: who exits on purpose (all stop at a signal) says goodbye, who fails doesn't."""
        if not hasattr(sys, 'last_type'):  # set where the interpreter has printed an exception that nobody caught
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
        """Wait for something to come or to end, until `close`."""
        while not self._closed.is_set():
            try:
                ready = self._selector.select(timeout=1)
            except (OSError, ValueError):  # closed meanwhile
                return
            for key, _ in ready:
                if key.fileobj is self._server:
                    self._accept()
                elif lost := self._hear(key.fileobj):
                    for peer in self._peers:
                        _send(peer, lost.encode())
                    if not self._closed.is_set():
                        self._on_loss(lost)
                    return

    def _accept(self) -> None:
        """Take in a process that knows the password."""
        try:
            connection, _ = self._server.accept()
            connection.settimeout(CONNECT_SECONDS)
            password, rank, host, pid = connection.makefile('rb', buffering=0).readline(200).decode().split()
        except (OSError, ValueError):
            return
        if secrets.compare_digest(password, self._password):
            self._add(connection, f'process {rank} on {host} (pid {pid})')

    def _hear(self, peer: socket.socket) -> str:
        """A sentence on who is lost, empty where nobody is."""
        try:
            text = peer.recv(1000)
        except OSError:
            text = b''
        if text and text != GOODBYE:
            return text.decode()
        self._selector.unregister(peer)
        name = self._peers.pop(peer)
        return '' if text else f'{name} has ended in the middle of the run'

    def _drop(self) -> None:
        """Close without a word."""
        for connection in (*self._peers, *filter(None, [self._server])):
            connection.close()


def _send(peer: socket.socket, text: bytes) -> None:
    with suppress(OSError):  # it has gone as well
        peer.sendall(text)
