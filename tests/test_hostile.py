"""A real server against clients that are slow, many or hostile: nobody is held up, and nothing grows."""

from __future__ import annotations

import json
import random
import socket
import string
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import sample_row
from tests.raw_http import CHUNKED, HEAD, RawConnection, request
from tests.sample_server import is_answered, server
from tests.test_server_process import Server, wait_for

__all__ = ["server"]
pytestmark = pytest.mark.integration


# Slow clients


def test_as_many_half_requests_as_one_likes_hold_nobody_up(server: Server) -> None:
    """Without our worker eight of them stop the server."""
    expecting = HEAD + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    endless = (CHUNKED + b"a" * 2000, HEAD + b"Content-Length: %s\r\n\r\n{" % (b"9" * 30))
    half = (b"", b"P", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{", CHUNKED + b"5\r\n{")
    beginnings = (*half, expecting, *endless)
    slow = [RawConnection(server.port) for _ in range(60)]
    try:
        for number, connection in enumerate(slow):
            connection.send(beginnings[number % len(beginnings)])
        started = time.monotonic()
        assert all(is_answered(server) for _ in range(30))
        assert time.monotonic() - started < 5.0
    finally:
        for connection in slow:
            connection.socket.close()


def test_a_request_that_trickles_is_ended(server: Server) -> None:
    with RawConnection(server.port) as trickle, RawConnection(server.port) as silent:
        trickle.send(HEAD)
        silent.send(HEAD + b"Content-Length: 50\r\n\r\n")
        trickle.socket.settimeout(0.2)  # the pace of the client, which is the subject here
        reply, started = None, time.monotonic()
        while reply is None and time.monotonic() - started < 25.0:
            try:
                trickle.send(b"X: y\r\n")
                reply = trickle.read()
            except TimeoutError:
                continue
        assert time.monotonic() - started < 20.0
        assert reply is not None and reply.problem["type"] == "urn:mlops:problem:slow"
        assert silent.read().status == 408
        assert silent.is_closed()


def test_a_large_body_that_stalls_gives_its_thread_back(server: Server) -> None:
    stalled = [RawConnection(server.port) for _ in range(8)]  # as many as there are threads
    try:
        for connection in stalled:
            connection.send(HEAD + b"Content-Length: 4000000\r\n\r\n" + b" " * 400_000)
        assert stalled[0].read().status in (0, 400, 408)
        wait_for(lambda: is_answered(server), "a request is answered", 30.0)
    finally:
        for connection in stalled:
            connection.socket.close()


def test_a_client_that_does_not_read_its_replies_is_left(server: Server) -> None:
    rows = json.dumps([sample_row()] * 1000).encode()
    with RawConnection(server.port) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.socket.settimeout(0.2)
        try:
            for _ in range(40):
                deaf.send(request(rows))
        except TimeoutError:
            pass  # its replies fill the pipe, so the server reads no more
        assert all(is_answered(server) for _ in range(20))


# Many of them


HOSTILE_VALUES: list[Any] = [
    *(None, True, -0.0, 1e308, 10**30, "", "NaN", "\x00", "💣"),
    *([], {}, [[]], {"a": {"b": []}}, "x" * 5000),
]
JSON, TEXT = b"application/json", b"text/plain"
ROUTES = [b"/predict"] * 6 + [b"/feedback", b"/invocations", b"/v2/models/production_model/infer", b"/x"]
TYPES = [JSON] * 8 + [TEXT, JSON + b"; charset=utf-16", b"\xff/\xfe"]
METHODS = [b"POST"] * 12 + [b"GET", b"PUT", b"DELETE", b"BREW"]
EXTRAS = [b""] * 8 + [b"X-Request-ID: \x01\r\n", b"Authorization: Bearer x\r\n", b"Content-Encoding: br\r\n"]


def hostile_bodies(choose: random.Random) -> bytes:
    """A row, a list or rubbish, with some of it changed."""
    kind = choose.randrange(6)
    if kind == 0:
        return bytes(choose.randrange(256) for _ in range(choose.randrange(200)))
    if kind == 1:
        return "".join(choose.choice('[]{}",:0123456789eE+-.truefalsn \\ud8') for _ in range(80)).encode()
    row = {name: hostile_value(choose) if choose.random() < 0.3 else value for name, value in sample_row().items()}
    if choose.random() < 0.2:
        row["".join(choose.choice(string.printable) for _ in range(choose.randrange(1, 30)))] = hostile_value(choose)
    if choose.random() < 0.2:
        row.pop(choose.choice(sorted(row)))
    text = json.dumps([row] * choose.randrange(1, 4) if kind == 2 else row).encode()
    if kind == 3:
        place = choose.randrange(len(text))
        text = text[:place] + bytes([choose.randrange(256)]) + text[place + choose.randrange(3) :]
    return text


def hostile_value(choose: random.Random) -> Any:
    return choose.choice(HOSTILE_VALUES)


def hostile_request(choose: random.Random) -> bytes:
    body = hostile_bodies(choose)
    route, kind, method, extra = (choose.choice(some) for some in (ROUTES, TYPES, METHODS, EXTRAS))
    length = len(body) if choose.random() < 0.97 else choose.randrange(300)
    head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n"
    return head % (method, route, kind, length, extra) + body


def footprint(server: Server) -> tuple[int, int]:
    """Bytes of memory and descriptors of all workers."""
    memory = descriptors = 0
    for worker in server.workers():
        status = Path(f"/proc/{worker}/status").read_text()
        memory += int(status.split("VmRSS:")[1].split()[0]) * 1024
        descriptors += len(list(Path(f"/proc/{worker}/fd").iterdir()))
    return memory, descriptors


def send_hostile(server: Server, count: int, seed: int) -> Counter[int]:
    choose, codes = random.Random(seed), Counter[int]()
    for _ in range(count):
        with RawConnection(server.port) as connection:
            connection.send(hostile_request(choose))
            connection.end_sending()  # else one that says a length too long would wait
            codes[connection.read().status] += 1
    return codes


def test_hostile_requests_get_declared_answers_and_nothing_grows(server: Server, soak: bool) -> None:
    """100,000 of them in the soak; no 5xx at all, since nothing is wrong with the server."""
    workers = server.workers()
    send_hostile(server, 300, seed=1)
    memory, descriptors = footprint(server)
    codes = send_hostile(server, 100_000 if soak else 1500, seed=2)
    assert [code for code in codes if code >= 500] == [], codes
    assert codes[200] and codes[422] and codes[400] and codes[404] and codes[405] and codes[415]
    assert server.workers() == workers
    wait_for(lambda: footprint(server)[1] <= descriptors + 2, "the descriptors are given back")
    assert footprint(server)[0] < memory + 20 * 2**20
    assert is_answered(server)
