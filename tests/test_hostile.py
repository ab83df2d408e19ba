"""A real server against clients that are slow, broken or hostile: declared answers, and nothing that grows."""

from __future__ import annotations

import json
import random
import socket
import string
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.headers import SECURITY_HEADERS
from tests.bundles import sample_row, serve_sample
from tests.raw_http import HEAD, RawConnection, exchange_raw, request
from tests.test_server_process import GUNICORN, Server, running, wait_for

pytestmark = pytest.mark.integration

GOOD = json.dumps(sample_row()).encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("hostile")
    serve_sample(home / "models" / "registry")
    with running(home, *GUNICORN) as server:
        wait_for(lambda: len(server.workers()) == 2, "both workers")
        yield server
        assert "Traceback" not in server.log()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def is_answered(server: Server) -> bool:
    return exchange_raw(server.port, request(GOOD)).status == 200


# What HTTP allows


def test_a_chunked_body_is_read(server: Server) -> None:
    body = b"".join(chunk(GOOD[start : start + 7]) for start in range(0, len(GOOD), 7))
    assert exchange_raw(server.port, CHUNKED + body + b"0\r\n\r\n").status == 200


def test_requests_sent_ahead_are_answered_in_order(server: Server) -> None:
    with RawConnection(server.port) as connection:
        ids = [f"ahead-{number}".encode() for number in range(20)]
        connection.send(b"".join(request(GOOD, b"X-Request-ID: " + name) for name in ids))
        assert [connection.read().headers["x-request-id"].encode() for _ in ids] == ids


def test_http_1_0_is_answered_and_closed(server: Server) -> None:
    with RawConnection(server.port) as connection:
        connection.send(request(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert connection.read().status == 200
        assert connection.is_closed()


def test_a_client_that_asks_first_is_told_to_go_on(server: Server) -> None:
    with RawConnection(server.port) as connection:
        head, _, body = request(GOOD, b"Expect: 100-continue").partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n")
        assert connection.read().status == 100
        connection.send(body)
        assert connection.read().status == 200


def test_a_request_in_small_pieces_is_answered(server: Server) -> None:
    data = request(GOOD)
    with RawConnection(server.port) as connection:
        for start in range(0, len(data), 40):
            connection.send(data[start : start + 40])
        assert connection.read().status == 200


# What it does not


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost localhost\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 500 + b"\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 431),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400),
        (HEAD + b"Content-Length: 0x10\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: rot13\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n{    ", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n , identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 2\r\n 0\r\n\r\n{}", 400),
        (HEAD + b"Content_Length: 5\r\n\r\n{    ", 400),
        (HEAD + b"Transfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}", 400),
        (HEAD + b"X: a\rContent-Length: 2\r\n\r\n{}", 400),
        (HEAD + b"X: \0\r\nContent-Length: 2\r\n\r\n{}", 400),
        (CHUNKED + b"2;a\nb\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"FFFFFFFFFFFFFFFF2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"2\n{}\n0\n\n", 400),
        (HEAD + b"Expect: miracles\r\nContent-Length: 2\r\n\r\n{}", 417),
        (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"2\r\n{}XX0\r\n0\r\n\r\n", 400),
        (CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 3\r\n\r\n", 400),
        (CHUNKED.replace(b"/predict", b"/nowhere") + b"2\r\n{}\r\n0\r\nContent-Length: 3\r\n\r\n", 404),
    ],
)
def test_what_is_no_http_is_a_problem_and_the_end_of_the_connection(server: Server, data: bytes, status: int) -> None:
    with RawConnection(server.port) as connection:
        connection.send(data)
        reply = connection.read()
        assert reply.status == status
        assert reply.problem["title"]
        assert reply.headers["x-request-id"] == reply.problem["request_id"]
        assert reply.headers.items() >= {(name.lower(), value) for name, value in SECURITY_HEADERS}
        assert connection.is_closed()
    assert is_answered(server)


LARGE = b"\r\n".join((b"%x" % 2**16, b" " * 2**16, b""))


@pytest.mark.parametrize(
    ("end", "status"),
    [(b"2;a\nb\r\n{}\r\n0\r\n\r\n", 400), (b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 9999, 431), (b"ffffff0\r\n{", 413)],
)
def test_a_large_chunked_body_is_held_to_the_same_rules(server: Server, end: bytes, status: int) -> None:
    """The thread reads its rest, and the client goes on sending until it hears the answer."""
    with RawConnection(server.port) as connection:
        connection.send(CHUNKED + LARGE * 5 + end)
        assert connection.read().problem["status"] == status
        assert connection.is_closed()


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("route", [b"/predict", b"/invocations", b"/v2/models/production_model/infer"])
def test_a_body_that_is_too_long_is_refused_before_it_comes(server: Server, route: bytes, expect: bytes) -> None:
    heads = [HEAD + expect + b"Content-Length: 99999999\r\n\r\n", CHUNKED[:-2] + expect + b"\r\n5f5e0ff\r\n"]
    for head in heads:
        started = time.monotonic()
        with RawConnection(server.port) as connection:
            connection.send(head.replace(b"/predict", route))
            reply = connection.read()
            assert (reply.status, reply.headers["connection"]) == (413, "close")
            assert connection.is_closed()
        assert time.monotonic() - started < 5.0  # a body that is waited for has ten seconds


def test_a_client_that_never_hangs_up_after_a_refusal_holds_nobody_up(server: Server) -> None:
    """The stock worker waits two seconds for each of them to close, in the loop that answers everybody."""
    left = [RawConnection(server.port) for _ in range(12)]
    try:
        for connection in left:
            connection.send(b"GARBAGE\r\n\r\n")
        started = time.monotonic()
        assert all(is_answered(server) for _ in range(30))
        assert time.monotonic() - started < 5.0
        assert all(connection.read().status == 400 and connection.is_closed() for connection in left)
    finally:
        for connection in left:
            connection.socket.close()


def samples(server: Server) -> dict[str, float]:
    text = exchange_raw(server.port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").body.decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def test_what_the_worker_refuses_is_counted_and_logged_with_its_id(server: Server) -> None:
    counted = ('mlops_requests_total{route="unmatched",code="501"}', 'mlops_refused_requests_total{problem="not-http"}')
    before = samples(server)
    coded = exchange_raw(server.port, HEAD + b"X-Request-ID: mine-1\r\nTransfer-Encoding: br\r\n\r\n")
    broken = exchange_raw(server.port, b"GARBAGE\r\n\r\n")
    assert coded.problem["request_id"] == "mine-1"
    after = samples(server)
    assert [after[name] - before.get(name, 0) for name in counted] == [1, 1]
    [log] = (server.home / "logs").glob("access_*.jsonl")
    lines = {line["request_id"]: line for line in map(json.loads, filter(None, log.read_text().splitlines()))}
    assert (lines["mine-1"]["status"], lines["mine-1"]["problem"]) == (501, "transfer-coding")
    assert lines[broken.problem["request_id"]]["remote"] == "127.0.0.1"
    assert broken.problem["request_id"] in server.log()


def test_every_line_of_the_log_is_json_from_the_first_on(server: Server) -> None:
    exchange_raw(server.port, b"GARBAGE\r\n\r\n")
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert lines[0]["message"].startswith("Starting gunicorn")


def test_a_broken_body_does_not_pass_for_the_next_request(server: Server) -> None:
    """Else a client behind a shared proxy could put a request in front of another's."""
    with RawConnection(server.port) as connection:
        connection.send(CHUNKED + b"2\r\n{}zz\r\n\r\n\r\n" + b"GET /model_info HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.read().status == 400
        assert connection.is_closed()


@pytest.mark.parametrize("sent", [b"", GOOD[:20], GOOD])
def test_a_client_that_leaves_before_its_body_ends_is_no_fault_of_ours(server: Server, sent: bytes) -> None:
    with RawConnection(server.port) as connection:
        connection.send(HEAD + b"Content-Length: %d\r\n\r\n" % (len(GOOD) + 100) + sent)
        connection.end_sending()
        assert connection.read().status in (0, 400)
    assert is_answered(server)


def test_a_length_of_many_digits_is_a_length_all_the_same(server: Server) -> None:
    """Else what has come of such a body would pass for the whole."""
    with RawConnection(server.port) as connection:
        connection.send(HEAD + b"Content-Length: 1" + b"0" * 20 + b"\r\n\r\n" + GOOD)
        connection.end_sending()
        assert connection.read().problem["status"] == 413


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b'{"age":' * 100_000 + b"1" + b"}" * 100_000, 400),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b"[" + b"1," * 2_000_000 + b"1]", 413),
        (b'"' + b"x" * 10_000_000 + b'"', 422),
        (b"9" * 1_000_000, 422),
        (b'{"age": 1' + b"0" * 400 + b"}", 422),
        (b'{"\xff": 1}', 400),
        (b'{"age": "\\ud800"}', 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"\x00" * 1000, 400),
        (b'{"age": NaN}', 400),
        (b'{"age": Infinity}', 400),
        (b"[{}]" * 2, 400),
    ],
)
def test_a_body_that_is_no_row_has_its_code(server: Server, body: bytes, status: int) -> None:
    reply = exchange_raw(server.port, request(body))
    assert reply.status == status, reply.body
    assert len(reply.body) < 10_000
    assert reply.problem["request_id"]


def test_of_a_repeated_key_the_last_one_counts(server: Server) -> None:
    twice = json.dumps(sample_row())[:-1] + ', "visits": 9.0}'
    reply = exchange_raw(server.port, request(twice.encode()))
    other = exchange_raw(server.port, request(json.dumps(sample_row(visits=9.0)).encode()))
    assert json.loads(reply.body)["probability"] == json.loads(other.body)["probability"]


def test_no_reply_names_the_server_s_version(server: Server) -> None:
    for data in (request(GOOD), b"GARBAGE\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        shown = exchange_raw(server.port, data).headers.get("server", "")
        assert not any(letter.isdigit() for letter in shown)


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
    *(None, True, -0.0, 1e308, 10**30, "", "NaN", "\x00", "💣", "x" * 5000),
    *([], {}, [[]], {"a": {"b": []}}),
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
    row: Any = {name: hostile_value(choose) if choose.random() < 0.3 else v for name, v in sample_row().items()}
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
    values: list[Any] = [
        None,
        True,
        -0.0,
        1e308,
        10**30,
        "",
        "NaN",
        "\x00",
        "💣",
        [],
        {},
        [[]],
        {"a": {"b": []}},
        "x" * 5000,
    ]
    return choose.choice(values)


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
