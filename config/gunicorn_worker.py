"""gunicorn's thread worker, made proof against clients that are slow or send no HTTP.

The stock worker gives a connection a thread as soon as its first byte is there, and the thread then waits for the rest
without end: as many half requests as there are threads stop it. Here a request gets its thread when it has arrived, up
to a size; it costs nothing, since the bytes are read once either way. What gunicorn refuses by itself is answered as a
problem, like everything else, and none of it is logged: a header that is no header may still hold a key.
"""

from __future__ import annotations

import re
import selectors
import socket
import struct
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.workers import gthread  # type: ignore[import-untyped]

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
_LENGTHS = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,1000})[ \t]*(?=\r\n)", re.IGNORECASE)
_GO_ON = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_ENCODED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked[ \t]*\r\n", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?")
_STALL = struct.pack("ll", STALL_SECONDS, 0)
_SECURITY = b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
_FAILED = (500, "internal", "the service failed; its log has the reason")
_SLOW = (408, "slow", "the request did not arrive in time")
_REFUSALS: tuple[tuple[Any, ...], ...] = (
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
        """Keeps or ends a connection whose request is over or not whole yet.

        One that was told that it is kept stays so while the worker stops, and its next reply ends it: to close it
        would lose a request that is on its way. That, and the time for requests, is what gthread does otherwise.
        """
        try:
            result = fs.result() if not fs.cancelled() else False
            if result is gthread._DEFER:
                self._wait_for_the_rest(conn)
            elif result:
                conn.sock.setblocking(False)
                conn.set_timeout()
                self.keepalived_conns.append(conn)
                readable = partial(self.on_client_socket_readable, conn)
                self.poller.register(conn.sock, selectors.EVENT_READ, readable)
            else:
                self.nr_conns -= 1
                conn.close(graceful=True)
        except Exception:
            self.nr_conns -= 1
            conn.close()

    def _wait_for_the_rest(self, conn: Any) -> None:
        now = time.monotonic()
        conn.sock.setblocking(False)
        conn.timeout = getattr(conn, "deadline", None) or now + CLIENT_SECONDS
        self.pending_conns.append(conn)
        readable = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)
        if conn.timeout <= now:
            self._end_slow(conn)

    def murder_pending(self) -> None:
        """Ends what has not arrived in time."""
        now = time.monotonic()
        if now - self._looked_at < 0.5 and self.alive:  # it is called after every event
            return
        self._looked_at = now
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now]:
            self._end_slow(conn)
        for conn, deadline in list(self._large.items()):
            if now > deadline:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)

    def _end_slow(self, conn: Any) -> None:
        self.pending_conns.remove(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        if conn.__dict__.get("gathered"):
            with suppress(OSError):
                conn.sock.send(_problem(*_SLOW))
        conn.close()

    def _has_arrived(self, conn: Any) -> bool:
        """Takes what is there; True when it is a whole request, the end of the connection, or the parser's affair."""
        unreader = conn.parser.unreader
        data: bytes = conn.__dict__.pop("gathered", b"") + unreader.take_buffered()
        while True:
            data = _told_to_go_on(conn, data)
            missing, conn.walked = _missing(data, conn.__dict__.get("walked", 0))
            if missing <= 0:
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
        conn.deadline, conn.walked, conn.is_exact = None, 0, missing == 0
        unreader.unread(data)
        return True

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answers what gunicorn itself refuses, and what went wrong in it."""
        refusal = next((said for kind, *said in _REFUSALS if isinstance(exc, kind)), None)
        if refusal is None:
            self.log.error("a request failed", exc_info=exc)
        else:
            self.log.info("a request was refused: %s", refusal[1])
        with suppress(OSError):
            client.sendall(_problem(*(refusal or _FAILED)))


def _told_to_go_on(conn: Any, data: bytes) -> bytes:
    """Answers a client that waits to be told so before it sends its body, here, where that takes no thread."""
    end = data.find(_END)
    asked = _GO_ON.search(data, 0, end + 2) if end >= 0 else None
    if asked is None:
        return data
    with suppress(OSError):
        conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n", socket.MSG_DONTWAIT)
    return data[: asked.start()] + data[asked.end() :]


def _missing(data: bytes, walked: int) -> tuple[int, int]:
    """Bytes that are missing of the first request, 1 when it is not known how many; and where to look on from.

    What is no request, or not to be understood here, lacks nothing: it is for the parser to refuse.
    """
    end = data.find(_END)
    if end < 0:
        return int(len(data) < LONGEST_HEAD), 0
    head, body = data[: end + 2], end + len(_END)
    lengths, is_encoded = _LENGTHS.findall(head), _ENCODED.search(head)
    if len(lengths) + bool(is_encoded) > 1:
        return 0, 0
    if is_encoded:
        return _missing_chunks(data, walked or body) if _CHUNKED.search(head) else (0, 0)
    return (int(lengths[0]) - (len(data) - body) if lengths else 0), 0


def _missing_chunks(data: bytes, walked: int) -> tuple[int, int]:
    """The same for a chunked body of which everything before `walked` was seen; that is where a chunk begins."""
    while (line := data.find(b"\r\n", walked)) >= 0:
        size = _CHUNK_SIZE.fullmatch(data, walked, line)
        if size is None:
            return 0, walked
        if not int(size[1], 16):  # what follows are trailers, mostly none
            whole = data.startswith(b"\r\n", line + 2) or data.find(_END, line) >= 0
            return int(not whole), walked
        after = line + 2 + int(size[1], 16) + 2
        if after > len(data):
            return after - len(data), walked
        walked = after
    return 1, walked


def _problem(status: int, name: str, detail: str) -> bytes:
    phrase = HTTPStatus(status).phrase
    document = {"type": f"urn:mlops:problem:{name}", "title": phrase, "status": status, "detail": detail}
    body = msgspec.json.encode(document)
    head = f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    return head.encode() + _SECURITY + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
