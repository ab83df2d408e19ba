"""A real server against requests that HTTP allows, and against what it does not: every answer is a declared one."""

from __future__ import annotations

import json
import time

import pytest

from api.headers import SECURITY_HEADERS
from tests.bundles import sample_row
from tests.raw_http import CHUNKED, HEAD, RawConnection, exchange_raw, request
from tests.sample_server import GOOD, is_answered, server
from tests.test_server_process import Server

__all__ = ["server"]
pytestmark = pytest.mark.integration


# What HTTP allows


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


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
