"""How our worker tells a whole request from a part of one, and from what two readers could take for two."""

from __future__ import annotations

import pytest

from config.request_framing import LONGEST_CHUNK_LINE, LONGEST_HEAD, LONGEST_TRAILERS, Refused, Walk, arrival

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
WITH_LENGTH = HEAD + b"Content-Length: 10\r\n\r\n0123456789"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
IN_CHUNKS = CHUNKED + b"4\r\n0123\r\n6;name=x\r\n456789\r\n0\r\n\r\n"
WITH_TRAILERS = IN_CHUNKS[:-2] + b"Sum: 1\r\n\r\n"
WITHOUT_BODY = HEAD + b"\r\n"


def is_whole(data: bytes) -> bool:
    return arrival(data).missing <= 0


def status_of(data: bytes) -> int:
    """0 when it is not refused."""
    try:
        arrival(data)
    except Refused as refusal:
        return refusal.status
    return 0


@pytest.mark.parametrize("request_", [WITH_LENGTH, IN_CHUNKS, WITH_TRAILERS, WITHOUT_BODY])
def test_a_request_is_whole_at_its_last_byte_and_not_before(request_: bytes) -> None:
    assert [size for size in range(len(request_) + 1) if is_whole(request_[:size])] == [len(request_)]


@pytest.mark.parametrize("request_", [IN_CHUNKS, WITH_TRAILERS])
def test_looking_on_from_where_it_was_seen_gives_the_same(request_: bytes) -> None:
    walk = Walk()
    for size in range(len(request_)):
        missing, walk, _ = arrival(request_[:size], walk)
        assert missing > 0
    assert arrival(request_, walk) == arrival(request_)
    assert arrival(request_, walk, most_bytes=9).oversized and not arrival(request_, walk, most_bytes=10).oversized


@pytest.mark.parametrize("after", [b"GET / HTTP/1.1\r\n", b"\xff" * 50, b"0\r\n\r\n"])
@pytest.mark.parametrize("request_", [WITH_LENGTH, IN_CHUNKS, WITHOUT_BODY])
def test_what_comes_after_a_request_does_not_matter(request_: bytes, after: bytes) -> None:
    assert is_whole(request_ + after)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Length: 5\r\nContent-Length: 5", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        (b"Transfer-Encoding: identity\r\nContent-Length: 5", 400),
        *(
            (b"Content-Length: " + value, 400)
            for value in (b"+5", b"-5", b"5x", b"5 5", b"5, 5", b"1_0", b"0x5", b"", b"\xb2")
        ),
        *((b"Content-Length" + colon + b"5", 400) for colon in (b" : ", b"\t:")),
        (b"Content_Length: 5", 400),
        (b"Transfer_Encoding: chunked", 400),
        (b"Transfer-Encoding : chunked", 400),
        (b"Transfer-Encoding: \x0bchunked", 400),
        (b"Transfer-Encoding:\r\n chunked", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked, chunked", 400),
        (b"Transfer-Encoding: , chunked", 400),
        (b"Transfer-Encoding: chunked;q=1", 400),
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Transfer-Encoding: chunked, gzip", 501),
        (b"Transfer-Encoding: identity", 501),
        (b"Transfer-Encoding: xchunked", 501),
        (b"X: a\nContent-Length: 5", 400),
        (b"X: a\rContent-Length: 5", 400),
        (b"X: a\0b", 400),
        (b"transfer-ENCODING: \t ChUnKeD \t", 0),
        (b"content-LENGTH:\t0005 ", 0),
        (b"X-Content-Length: 5, 5\r\nX: Transfer-Encoding: gzip", 0),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused(header: bytes, status: int) -> None:
    assert status_of(HEAD + header + b"\r\n\r\n0\r\n\r\n") == status


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1\nHost: x\n\n", b"\nGET / HTTP/1.1\r\n", b"GET /\r HTTP/1.1\r\n", b"\0"]
)
def test_line_ends_of_one_byte_are_refused_before_the_head_ends(line: bytes) -> None:
    assert status_of(line) == 400


@pytest.mark.parametrize(
    "body",
    [
        *(size + b"\r\n{}" for size in (b"0x2", b"+2", b"-2", b"2_0", b"2 ", b" 2", b"", b"zz", b"2\t2", b"F" * 16)),
        *(b"2;" + extension + b"\r\n{}\r\n" for extension in (b"a\nb", b"a\rb", b"a\0b", b"a\x7f")),
        b"2\n{}\n0\n\n",
        b"2\r\n{}\n\n0\r\n\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"0\r\nA: b\nC: d\r\n\r\n",
        b"5;" + b"a" * LONGEST_CHUNK_LINE,
    ],
)
def test_chunks_that_could_be_read_in_two_ways_are_refused(body: bytes) -> None:
    assert status_of(CHUNKED + body) == 400


def test_trailers_have_an_end() -> None:
    assert status_of(CHUNKED + b"0\r\n" + b"A: b\r\n" * LONGEST_TRAILERS) == 431


@pytest.mark.parametrize("body", [b"2 ; a=b\r\n{}\r\n0\r\n\r\n", b'02;a="\xc3\xa9"\r\n{}\r\n000\r\nSum: 1\r\n\r\n'])
def test_what_rfc_9112_allows_is_taken(body: bytes) -> None:
    assert is_whole(CHUNKED + body)


def test_a_body_that_is_too_long_is_not_waited_for() -> None:
    assert arrival(HEAD + b"Content-Length: 11\r\n\r\n", most_bytes=10).oversized
    assert not arrival(HEAD + b"Content-Length: 10\r\n\r\n", most_bytes=10).oversized
    assert arrival(CHUNKED + b"6\r\n012345\r\n5\r\n", most_bytes=10).oversized
    assert not arrival(CHUNKED + b"6\r\n012345\r\n4\r\n", most_bytes=10).oversized
    assert arrival(HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", most_bytes=2**60).oversized


def test_a_head_that_does_not_end_is_left_to_the_parser() -> None:
    assert not is_whole(HEAD + b"X: " + b"y" * 10_000)
    assert is_whole(HEAD + b"X: " + b"y" * LONGEST_HEAD)


def test_a_large_body_is_known_by_its_length() -> None:
    assert arrival(HEAD + b"Content-Length: 800000\r\n\r\n").missing == 800_000
