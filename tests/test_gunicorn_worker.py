"""How our worker tells a whole request from a part of one."""

from __future__ import annotations

import pytest

from config.gunicorn_worker import GATHERED_BYTES, LONGEST_HEAD, _missing

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
WITH_LENGTH = HEAD + b"Content-Length: 10\r\n\r\n0123456789"
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6;name=x\r\n456789\r\n0\r\n\r\n"
WITH_TRAILERS = IN_CHUNKS[:-2] + b"Sum: 1\r\n\r\n"
WITHOUT_BODY = HEAD + b"\r\n"


def is_whole(data: bytes) -> bool:
    return _missing(data, 0)[0] <= 0


@pytest.mark.parametrize("request_", [WITH_LENGTH, IN_CHUNKS, WITH_TRAILERS, WITHOUT_BODY])
def test_a_request_is_whole_at_its_last_byte_and_not_before(request_: bytes) -> None:
    assert [size for size in range(len(request_) + 1) if is_whole(request_[:size])] == [len(request_)]


@pytest.mark.parametrize("request_", [IN_CHUNKS, WITH_TRAILERS])
def test_looking_on_from_where_it_was_seen_gives_the_same(request_: bytes) -> None:
    walked = 0
    for size in range(len(request_)):
        missing, walked = _missing(request_[:size], walked)
        assert missing > 0
    assert _missing(request_, walked)[0] == 0


@pytest.mark.parametrize("after", [b"GET / HTTP/1.1\r\n", b"\xff" * 50, b"0\r\n\r\n"])
@pytest.mark.parametrize("request_", [WITH_LENGTH, IN_CHUNKS, WITHOUT_BODY])
def test_what_comes_after_a_request_does_not_matter(request_: bytes, after: bytes) -> None:
    assert is_whole(request_ + after)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5x\r\n",
        b"Transfer-Encoding: gzip\r\n",
    ],
)
def test_what_is_not_to_be_understood_is_left_to_the_parser(head: bytes) -> None:
    assert is_whole(HEAD + head + b"\r\n")


@pytest.mark.parametrize("body", [b"zz\r\n", b"-1\r\n", b"\r\n", b"4 4\r\n", b"4\r\n0123\r\nxx\r\n"])
def test_chunks_that_are_none_are_left_to_the_parser(body: bytes) -> None:
    assert is_whole(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: " + b"9" * 30, b"{}"),
        (b"Transfer-Encoding: chunked", b"a" * 2000),
        (b"Transfer-Encoding: gzip, chunked", b"5\r\n{"),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", b"5\r\n{"),
        (b"Transfer-Encoding: chunked", b"0\r\nSum: 1"),
    ],
)
def test_what_the_parser_would_wait_for_is_waited_for_here(head: bytes, body: bytes) -> None:
    """A wait costs no thread here, and the loop nothing that answers small requests by itself."""
    assert not is_whole(HEAD + head + b"\r\n\r\n" + body)


def test_a_head_that_does_not_end_is_left_to_the_parser() -> None:
    assert not is_whole(HEAD + b"X: " + b"y" * 10_000)
    assert is_whole(HEAD + b"X: " + b"y" * LONGEST_HEAD)


def test_a_large_body_is_known_by_its_length() -> None:
    data = HEAD + b"Content-Length: %d\r\n\r\n" % (GATHERED_BYTES * 3)
    assert _missing(data, 0)[0] == GATHERED_BYTES * 3
