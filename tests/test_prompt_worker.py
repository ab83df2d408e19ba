"""The worker's loop: who is answered by it, and that nobody holds it up. Real processes."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.bundles import sample_row, serve_sample
from tests.test_server_process import GUNICORN, Server, Traffic, exchange, running, wait_for

pytestmark = pytest.mark.integration
HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One worker, which is renewed after about every hundred requests."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 1 --max-requests 80 --max-requests-jitter 40")
    serve_sample(tmp_path / "home" / "models" / "registry")
    with running(tmp_path / "home", *GUNICORN) as server:
        yield server


def request(rows: int = 1) -> bytes:
    body = msgspec.json.encode([sample_row()] * rows)
    return HEAD.format(len(body)).encode() + body


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def read_reply(connection: socket.socket) -> bytes:
    reply = b""
    while b"\r\n\r\n" not in reply:
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        reply += chunk
    return reply


def test_workers_that_are_renewed_drop_no_request(server: Server) -> None:
    first = server.workers()
    with Traffic(server, clients=3) as traffic:
        traffic.wait_for_replies(400)
        wait_for(lambda: not set(server.workers()) & set(first), "the worker is renewed")
    assert traffic.failures == []
    assert len(set(traffic.ids)) == len(traffic.replies)


def test_a_reload_by_sighup_drops_no_request_and_the_log_stays_json(tmp_path: Path, soak: bool) -> None:
    """A worker that stops answers what comes on a connection that it has told to be kept."""
    serve_sample(tmp_path / "models" / "registry")
    with running(tmp_path, *GUNICORN) as server:
        wait_for(lambda: len(server.workers()) == 2, "both workers")
        with Traffic(server, clients=8) as traffic:
            for _ in range(40 if soak else 5):
                traffic.wait_for_replies(200)
                before = set(server.workers())
                server.process.send_signal(signal.SIGHUP)
                wait_for(lambda before=before: not before & set(server.workers()), "new workers")  # type: ignore[misc]
        assert traffic.failures == []
        assert {type(json.loads(line)) for line in server.log().splitlines()} == {dict}


def test_clients_that_send_no_whole_request_hold_up_nobody(server: Server) -> None:
    halves = [connect(server) for _ in range(12)]
    for half in halves:
        half.sendall(request()[:-1])
    connection = connect(server)
    connection.sendall(request())
    assert read_reply(connection).startswith(b"HTTP/1.1 200")
    for half in halves:
        half.sendall(request()[-1:])
        assert read_reply(half).startswith(b"HTTP/1.1 200")


def test_clients_that_take_no_reply_hold_up_nobody(server: Server) -> None:
    """Each asks on and on and never reads, until the kernel takes no more of it."""
    deaf = []
    for _ in range(3):
        connection = connect(server)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        try:
            for _ in range(20):
                connection.send(request(rows=40))
        except BlockingIOError:
            pass
        deaf.append(connection)
    other = connect(server)
    other.settimeout(3)  # a thread that waits for a deaf client gives up after five seconds
    other.sendall(request())
    assert read_reply(other).startswith(b"HTTP/1.1 200")


def test_requests_sent_one_after_the_other_without_waiting_are_all_answered(server: Server) -> None:
    connection = connect(server)
    connection.sendall(request() * 5)
    replies = b""
    while replies.count(b"HTTP/1.1 200") < 5:
        chunk = connection.recv(1 << 16)
        assert chunk
        replies += chunk


@pytest.mark.parametrize("rows", [1, 500, 5000])
def test_any_size_is_answered(server: Server, rows: int) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(3):
        status, reply = exchange(connection, "POST", "/predict", [sample_row()] * rows)
        assert status == (200 if rows <= 1000 else 413), reply
        assert server.get("/health")[0] == 200
