"""gunicorn's thread worker, made proof against clients that are slow or send no HTTP.

The stock worker gives a connection a thread as soon as its first byte is there, and the thread then waits for the rest
without end: as many half requests as there are threads stop it. Here a request gets its thread when it has arrived, up
to a size; it costs nothing, since the bytes are read once either way. What gunicorn refuses by itself is answered as a
problem, like everything else, and none of it is logged: a header that is no header may still hold a key.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from gunicorn.http import errors
from gunicorn.workers import gthread

#: A request must have arrived, and its reply be taken, within this time.
CLIENT_SECONDS = 10.0
#: Requests up to this size wait without a thread; of longer ones the thread reads the rest.
GATHERED_BYTES = 256 * 1024
LONGEST_HEAD = 64 * 1024
LARGE_BODY_SECONDS = 60.0
#: Without a byte for this long a thread's read or write ends.
STALL_SECONDS = 5
_CHUNK = 64 * 1024
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_READ_ON = re.compile(rb"\r\nexpect:", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_STALL = struct.pack("ll", STALL_SECONDS, 0)
_SECURITY = b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
_REFUSALS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (errors.LimitRequestLine, 414, "long-line", "the request line is too long"),
    (errors.LimitRequestHeaders, 431, "many-headers", "there are too many headers, or they are too long"),
    (errors.ExpectationFailed, 417, "expectation", "the server knows no other expectation than 100-continue"),
    (errors.ParseException, 400, "not-http", "this is no HTTP request that the server understands"),
)


class PatientWorker(gthread.ThreadWorker):  # type: ignore[misc]
    """Threads for requests, a poller for everything that is still on its way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._large: dict[Any, float] = {}
        self._looked_at = 0.0

    def handle(self, conn: Any) -> Any:
        """Answers what has arrived on a connection; the base class's deferral when a request is not whole yet."""
        if conn.cfg.is_ssl:
            return super().handle(conn)
        self.prepare(conn)
        while True:
            if not self._has_arrived(conn):
                return gthread._DEFER
            try:
                result = super().handle(conn)
            finally:
                self._large.pop(conn, None)
            if result is not True or not conn.parser.unreader.buf.getbuffer().nbytes:
                return result

    def prepare(self, conn: Any) -> None:
        """Makes a new connection ready to be read."""
        if not conn.initialized:
            conn.data_ready = True
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _STALL)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _STALL)
            conn.init()

    def finish_request(self, conn: Any, fs: Any) -> None:
        super().finish_request(conn, fs)
        deadline = getattr(conn, "deadline", None)
        if deadline is not None:  # it was deferred in the middle of a request
            conn.timeout = deadline
        elif self.pending_conns and self.pending_conns[-1] is conn:
            conn.timeout = time.monotonic() + CLIENT_SECONDS

    def murder_pending(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < 0.5:  # the base class looks after every event
            return
        self._looked_at = now
        super().murder_pending()
        for conn, deadline in list(self._large.items()):
            if now > deadline:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)

    def _has_arrived(self, conn: Any) -> bool:
        """Takes what is there; True when it is a whole request, the end of the connection, or the parser's affair."""
        unreader = conn.parser.unreader
        data: bytes = conn.__dict__.pop("gathered", b"") + unreader.take_buffered()
        while True:
            if _missing(data) <= 0:
                break
            if len(data) >= GATHERED_BYTES:
                self._large[conn] = time.monotonic() + LARGE_BODY_SECONDS
                break
            try:
                chunk = conn.sock.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                conn.gathered = data
                if data and getattr(conn, "deadline", None) is None:
                    conn.deadline = time.monotonic() + CLIENT_SECONDS
                return False
            except OSError:
                break
            if not chunk:
                break
            data += chunk
        conn.deadline = None
        unreader.unread(data)
        return True

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answers what gunicorn itself refuses, and what went wrong in it."""
        for kind, status, name, detail in _REFUSALS:
            if isinstance(exc, kind):
                self.log.info("a request was refused: %s", name)
                break
        else:
            self.log.error("a request failed", exc_info=exc)
            status, name, detail = 500, "internal", "the service failed; its log has the reason"
        with suppress(OSError):
            client.sendall(_problem(status, name, detail))


def _missing(data: bytes) -> int:
    """Bytes that are known to be missing of the first request; 1 when it is not known how many."""
    end = data.find(_END)
    if end < 0:
        return 1 if len(data) < LONGEST_HEAD else 0
    head = data[: end + 2]
    if _READ_ON.search(head):
        return 0
    if _CHUNKED.search(head):
        body = data[end + 2 :]
        return 0 if b"\r\n0\r\n" in body else 1
    length = _LENGTH.search(head)
    return int(length[1]) - (len(data) - end - 4) if length else 0


def _problem(status: int, name: str, detail: str) -> bytes:
    phrase = HTTPStatus(status).phrase
    document = {"type": f"urn:mlops:problem:{name}", "title": phrase, "status": status, "detail": detail}
    body = msgspec.json.encode(document)
    head = f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    return head.encode() + _SECURITY + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
