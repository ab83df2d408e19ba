"""gunicorn's thread worker, made proof against clients that are slow or send no HTTP.

The stock worker gives a connection a thread as soon as its first byte is there, and the thread then waits for the rest
without end: as many half requests as there are threads stop it. Here a request gets its thread when it has arrived, up
to a size; it costs nothing, since the bytes are read once either way. What is refused before the application sees it
is answered by `refuse`, which the settings of gunicorn replace with the application's own; none of what was sent is
logged: a header that is no header may still hold a key.
"""

from __future__ import annotations

import re
import selectors
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.workers import gthread  # type: ignore[import-untyped]

from config.request_framing import END, WHOLE, Arrival, Refused, Walk, arrival
from config.strict_body import restrict

#: A request must have arrived, and its reply be taken, within this time.
CLIENT_SECONDS = 10.0
#: Requests up to this size wait without a thread; of longer ones the thread reads the rest.
GATHERED_BYTES = 256 * 1024
LARGE_BODY_SECONDS = 60.0
#: Without a byte for this long a thread's read or write ends.
STALL_SECONDS = 5
#: After the last reply what is still on its way is read off, so that the reply is not lost with it: for so long, and so
#: much of it.
LINGER_SECONDS, LINGER_BYTES = 2.0, 64 * 2**20
_CHUNK = 64 * 1024
_GO_ON = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*([A-Za-z0-9._:-]{1,128})[ \t]*\r\n", re.IGNORECASE)
_STALL = struct.pack("ll", STALL_SECONDS, 0)
_FAILED = Refused(500, "internal", "the service failed; its log has the reason")
_SLOW = Refused(408, "slow", "the request did not arrive in time")
_REFUSALS: tuple[tuple[Any, Refused], ...] = (
    (errors.LimitRequestLine, Refused(414, "long-line", "the request line is too long")),
    (errors.LimitRequestHeaders, Refused(431, "many-headers", "there are too many headers, or they are too long")),
    (
        errors.ExpectationFailed,
        Refused(417, "expectation", "the server knows no other expectation than 100-continue"),
    ),
    (errors.ParseException, Refused(400, "not-http", "this is no HTTP request that the server understands")),
)
#: What answers a refusal: from it, the client's request id ('' when there is none), its address and what has failed
#: here, if anything has, to the bytes of the reply.
Refuser = Callable[[Refused, str, str, BaseException | None], bytes]


def bare_reply(refusal: Refused, _request_id: str, _remote: str, _error: BaseException | None) -> bytes:
    """A status and nothing else, for a worker that nobody has told better."""
    phrase = HTTPStatus(refusal.status).phrase
    return f"HTTP/1.1 {refusal.status} {phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()


class PatientWorker(gthread.ThreadWorker):  # type: ignore[misc]
    """Threads for requests, a poller for everything that is still on its way.

    `refuse` and `most_bytes`, the longest body, are for `post_worker_init` to set.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refuse: Refuser = bare_reply
        self.most_bytes: int | None = None
        self._large: dict[Any, float] = {}
        self._lingering: dict[Any, _Farewell] = {}
        self._looked_at = 0.0

    def handle(self, conn: Any) -> Any:
        """Answers what has arrived on a connection; the base class's deferral when a request is not whole yet."""
        if conn.cfg.is_ssl:
            return super().handle(conn)
        self.prepare(conn)
        while True:
            if not self._has_arrived(conn):
                return gthread._DEFER
            if conn.refusal is not None:
                conn.sock.setblocking(True)
                self._answer(conn.sock, conn.refusal, _id_in(conn.parser.unreader.take_buffered()), conn.client)
                return False
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

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answers a parsed request, whose body is read by the rules of `request_framing` only."""
        restrict(req, conn.parser.unreader, self.most_bytes)
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        """Whether the connection goes on after a reply: not when what is left of the request is broken."""
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except (Refused, OSError):
            return False

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
                self.end(conn)
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

    def end(self, conn: Any) -> None:
        """Ends a connection that is with nobody, after its last reply: without waiting, and without losing that."""
        with suppress(OSError):
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._read_off, conn))
            self._lingering[conn] = _Farewell(time.monotonic() + LINGER_SECONDS)
            return
        self._forget(conn)

    def _read_off(self, conn: Any, _: Any) -> None:
        """Takes one piece at a time, so that others have their turn."""
        farewell = self._lingering[conn]
        try:
            data = conn.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        farewell.left -= len(data)
        if not data or farewell.left <= 0:
            self._bid_farewell(conn)

    def _bid_farewell(self, conn: Any) -> None:
        del self._lingering[conn]
        self.poller.unregister(conn.sock)
        self._forget(conn)

    def _forget(self, conn: Any) -> None:
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Ends what has not arrived in time."""
        now = time.monotonic()
        if now - self._looked_at < 0.5 and self.alive:  # it is called after every event
            return
        self._looked_at = now
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now]:
            self._end_slow(conn)
        for conn in [conn for conn, farewell in self._lingering.items() if farewell.until <= now]:
            self._bid_farewell(conn)
        for conn, deadline in list(self._large.items()):
            if now > deadline:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)

    def _end_slow(self, conn: Any) -> None:
        self.pending_conns.remove(conn)
        self.poller.unregister(conn.sock)
        gathered = conn.__dict__.pop("gathered", b"")
        if gathered:
            self._answer(conn.sock, _SLOW, _id_in(gathered), conn.client)
        self.end(conn)

    def _has_arrived(self, conn: Any) -> bool:
        """Takes what is there; True when it is a whole request, one to refuse, or the end of the connection."""
        unreader = conn.parser.unreader
        data: bytes = conn.__dict__.pop("gathered", b"") + unreader.take_buffered()
        conn.refusal, found, walk = None, WHOLE, conn.__dict__.get("walk", Walk())
        while True:
            try:
                found = arrival(data, walk, self.most_bytes)
            except Refused as refusal:
                conn.refusal, found = refusal, Arrival(-1)
                break
            walk = found.walk
            if found.missing > 0 or found.oversized:
                told = _told_to_go_on(conn, data, found.oversized)
                if told is not data:
                    data, walk = told, Walk()
                    continue
            if found.missing <= 0:
                break
            if len(data) >= GATHERED_BYTES:
                self._large[conn] = time.monotonic() + LARGE_BODY_SECONDS
                break
            try:
                chunk = conn.sock.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                conn.gathered, conn.walk = data, walk
                if data and getattr(conn, "deadline", None) is None:
                    conn.deadline = time.monotonic() + CLIENT_SECONDS
                return False
            except OSError:
                break
            if not chunk:
                break
            data += chunk
        conn.deadline, conn.walk, conn.is_exact = None, Walk(), found.missing == 0 and not found.oversized
        unreader.unread(data)
        return True

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answers what gunicorn itself refuses, and what went wrong in it."""
        del req
        refusal = exc if isinstance(exc, Refused) else next((r for kind, r in _REFUSALS if isinstance(exc, kind)), None)
        self._answer(client, refusal or _FAILED, "", addr, None if refusal else exc)

    def _answer(
        self, sock: Any, refusal: Refused, request_id: str, addr: Any, error: BaseException | None = None
    ) -> None:
        """The last reply on a connection."""
        remote = addr[0] if isinstance(addr, tuple) else ""
        try:
            reply = self.refuse(refusal, request_id, remote, error)
        except Exception as failure:  # whatever it is, the client is to be told
            self.log.error("a refusal could not be noted", exc_info=failure)
            reply = bare_reply(refusal, request_id, remote, error)
        with suppress(OSError):
            sock.sendall(reply)


class _Farewell:
    """A connection that is ending: until when, and how many bytes are read off at most."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.left = LINGER_BYTES


def _id_in(data: bytes) -> str:
    """The client's request id in the head of what it has sent, if a log can carry it."""
    found = _REQUEST_ID.search(data, 0, (data.find(END) + 2) if END in data else len(data))
    return found[1].decode() if found else ""


def _told_to_go_on(conn: Any, data: bytes, refused: bool) -> bytes:
    """Answers a client that waits to be told so before it sends its body, here, where that takes no thread; one whose
    body is refused is not told. Returns `data` itself when it does not ask."""
    end = data.find(END)
    asked = _GO_ON.search(data, 0, end + 2) if end >= 0 else None
    if asked is None:
        return data
    if not refused and b" HTTP/1.0\r\n" not in data[:end]:
        with suppress(OSError):
            conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n", socket.MSG_DONTWAIT)
    return data[: asked.start()] + data[asked.end() :]
