"""Real receivers of alerts on this machine: a mail server and a webhook that keep what they are sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.ports import free_port


class Webhook:
    """Takes POSTs of JSON, or does as it is told: `answers` are the next status codes, 200 when there is none left."""

    def __init__(self, port: int = 0) -> None:
        self.received: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.hangs = threading.Event()
        self.released = threading.Event()
        self.asked = threading.Event()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.asked.set()
                if webhook.hangs.is_set():
                    webhook.released.wait(60)
                    return
                status = webhook.answers.pop(0) if webhook.answers else 200
                if status == 200:
                    webhook.received.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"json://someone:secret-word@127.0.0.1:{self.port}/secret-path"

    @property
    def titles(self) -> list[str]:
        return [str(one["title"]) for one in self.received]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def webhook(port: int = 0) -> Iterator[Webhook]:
    receiver = Webhook(port)
    try:
        yield receiver
    finally:
        receiver.close()


class MailServer:
    def __init__(self) -> None:
        self.received: list[EmailMessage] = []
        self.refuses = False

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refuses:
            return "451 not now, someone:secret-word"
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[tuple[MailServer, str]]:
    """The server, and the address under which apprise reaches it."""
    handler, port = MailServer(), free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield handler, f"mailto://127.0.0.1:{port}/?from=mlops@example.org&to=team@example.org&secret=secret-word"
    finally:
        controller.stop()
