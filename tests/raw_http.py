"""HTTP by hand, for tests of what no client library sends."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

from msgspec import Struct

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class RawReply(Struct, frozen=True):
    """`status` 0: the server closed without a word."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json", self.headers
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        return found


class RawConnection:
    """A connection that sends bytes as they are."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._rest = b""

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> RawReply:
        """One reply."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                return RawReply(0, {}, self._rest)
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self._rest) < length and self._more():
            pass
        body, self._rest = self._rest[:length], self._rest[length:]
        return RawReply(int(first.split()[1]), headers, body)

    def is_closed(self) -> bool:
        """Waits until the server sends something or closes; True when it closes."""
        try:
            return not self._rest and not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._rest += data
        return bool(data)


def exchange_raw(port: int, data: bytes) -> RawReply:
    with RawConnection(port) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has been refused already
            connection.send(data)
        return connection.read()


def request(body: bytes, *headers: bytes) -> bytes:
    """A prediction request with a right length."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body
