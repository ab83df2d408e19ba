"""The patient worker, which answers small predictions in its own loop instead of in a thread.

Handing a request to a thread and back costs more than a prediction: two wake-ups, and then each system call gives the
interpreter's lock to another thread. So what has arrived whole, is small and asks for a prediction is answered by the
loop itself, one after the other in the order of arrival; all else (large bodies, other routes, a client that does not
take its replies) goes to the threads as ever, and keeps nobody waiting.
"""

from __future__ import annotations

import fcntl
import struct
import termios
import time
from typing import Any

from gunicorn.workers import gthread  # type: ignore[import-untyped]

from config.gunicorn_worker import PatientWorker

_PREDICTION = b"POST /predict "
#: Requests up to this size are answered by the loop: a hundred rows or so, two milliseconds of a large forest.
PROMPT_BYTES = 32 * 1024
_SWEEP_SECONDS = 1.0


class PromptWorker(PatientWorker):
    """A loop for small predictions, threads for everything else."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._swept = 0.0

    def enqueue_req(self, conn: Any) -> None:
        """What gthread calls for a connection that may have a request."""
        if conn.cfg.is_ssl:
            super().enqueue_req(conn)
            return
        self.prepare(conn)
        if not self._has_arrived(conn):
            self.finish_request(conn, _Done(gthread._DEFER))
        elif _is_prompt(conn):
            self.finish_request(conn, _Done(self.handle(conn)))
        else:
            super().enqueue_req(conn)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """A kept connection stays with the poller while the loop answers it."""
        if conn.cfg.is_ssl or not self._has_arrived(conn) or not _is_prompt(conn):
            super().on_client_socket_readable(conn, client)
        elif self.handle(conn) is True:
            conn.set_timeout()
        else:
            self.poller.unregister(client)
            self.keepalived_conns.remove(conn)
            self.end(conn)

    def murder_keepalived(self) -> None:
        """Closes what has been idle for too long; the connections are in no order here."""
        now = time.monotonic()
        if now - self._swept < _SWEEP_SECONDS and self.alive:
            return
        self._swept = now
        for conn in [conn for conn in self.keepalived_conns if conn.timeout <= now]:
            self.keepalived_conns.remove(conn)
            self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()


def _is_prompt(conn: Any) -> bool:
    """Whether what has arrived is one small prediction, of a client that takes its replies before it asks again."""
    arrived = conn.parser.unreader.buf
    return bool(
        conn.is_exact
        and arrived.getbuffer().nbytes <= PROMPT_BYTES
        and arrived.getvalue().startswith(_PREDICTION)
        and _has_taken_its_replies(conn.sock)
    )


def _has_taken_its_replies(sock: Any) -> bool:
    """Nothing is left in the send buffer, so that a reply goes out without waiting."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0")) == (0,)


class _Done:
    """The outcome of a request that no thread has answered, as gthread reads it."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def result(self) -> Any:
        return self._result

    def cancelled(self) -> bool:
        return False
