"""Sends one message to one receiver through apprise, in a process of its own that can be ended at any moment.

A receiver that hangs holds only that process. The address comes from an environment variable that the process inherits,
so it is on no command line; what went wrong is told in words of our own, because what apprise, a receiver or a library
says may hold the address.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading

import msgspec
from msgspec import Struct

from config.home import PROJECT_ROOT
from monitoring.alert_text import Message

#: The process ends itself by then, if nobody does it.
_OVERTIME_SECONDS = 5


class _Order(Struct, frozen=True):
    url_env: str
    message: Message
    seconds: float


class _Answer(Struct, frozen=True):
    error: str | None


class Sending:
    """One message on its way."""

    def __init__(self, url_env: str, message: Message, seconds: float) -> None:
        self._order, self._seconds = _Order(url_env, message, seconds), seconds
        self._ended = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for who sends, which ends this then
        )

    def wait(self) -> str | None:
        """None when the receiver has taken it, else why not; after the time-out at the latest."""
        try:
            output, _ = self._process.communicate(msgspec.json.encode(self._order), self._seconds)
        except subprocess.TimeoutExpired:
            self._kill()
            return f"the receiver did not answer within {self._seconds:g} s"
        if self._ended.is_set():
            return "ended while it was being sent"
        try:
            return msgspec.json.decode(output, type=_Answer).error
        except msgspec.DecodeError:
            return f"the process that sends it failed (exit code {self._process.returncode})"

    def end(self) -> None:
        """From another thread; `wait` returns then."""
        self._ended.set()
        self._process.kill()

    def _kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def send(url_env: str, message: Message, seconds: float) -> str | None:
    """Sends now. None when the receiver has taken it, else why not."""
    if not os.environ.get(url_env, "").strip():
        return f"the environment variable {url_env} is not set"
    return Sending(url_env, message, seconds).wait()


class _Collector(logging.Handler):
    """What apprise says while it sends; it is looked through and never shown."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def deliver(url: str, message: Message) -> str | None:
    """None when the receiver has taken it, else why not, without any part of the address."""
    import apprise

    log, collector = logging.getLogger("apprise"), _Collector()
    log.propagate = False
    log.setLevel(logging.DEBUG)
    log.addHandler(collector)
    try:
        receiver = apprise.Apprise()
        if not receiver.add(url) or len(receiver) == 0:
            return "the address is none that apprise knows; it lists them at https://appriseit.com/services"
        taken = receiver.notify(
            title=message.title,
            body=message.body,
            notify_type=_notify_type(message),
            body_format=apprise.NotifyFormat.TEXT,
        )
        return None if taken else reason(collector.said)
    except Exception as error:  # whatever a receiver's plugin raises; its text may hold the address
        return f"sending failed with {type(error).__name__}"
    finally:
        log.removeHandler(collector)


def reason(said: list[str]) -> str:
    """Why a receiver did not take a message: only status codes are taken out of what was said."""
    text = "\n".join(said)
    if status := re.search(r"error=(\d{3})\b", text):
        return f"the receiver answered {status[1]}"
    if status := re.search(r"\((\d{3}), b?['\"]", text):
        return f"the mail server answered {status[1]}"
    if re.search(r"connection error|socket|timed out|refused", text, re.IGNORECASE):
        return "the receiver cannot be reached"
    return "the receiver did not take it"


def _notify_type(message: Message) -> str:
    if message.good_news:
        return "success"
    if message.severity is None:
        return "info"
    return "failure" if message.severity in ("high", "critical") else "warning"


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    signal.alarm(int(order.seconds) + _OVERTIME_SECONDS)
    url = os.environ.get(order.url_env, "").strip()
    error = deliver(url, order.message) if url else f"the environment variable {order.url_env} is not set"
    sys.stdout.buffer.write(msgspec.json.encode(_Answer(error)))
    sys.stdout.flush()
    os._exit(0)  # whatever a plugin left running


if __name__ == "__main__":
    main()
