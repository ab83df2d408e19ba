"""Where a request ends: told from the bytes that have arrived, before any parser sees them.

    Refused             a request that two readers could take for two different ones

A proxy in front and a server behind must agree on where each request ends, or a client can put one of its own in
front of another's (request smuggling). So what RFC 9112 leaves a reader to mend is refused here: a length and chunks
together, two lengths, line ends of one byte, another transfer coding than `chunked` alone, and chunk sizes that are
anything but hexadecimal digits. (Folded lines are refused by the parser.)
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST_HEAD = 64 * 1024
#: A chunk's size with its extensions; and all trailers.
LONGEST_CHUNK_LINE, LONGEST_TRAILERS = 4096, 8192
END = b"\r\n\r\n"
#: The headers that say where a body ends, and spellings that others may take for one of them.
_LENGTH, _ENCODING = b"\r\ncontent-length", b"\r\ntransfer-encoding"
_MISSPELT = (b"\r\ncontent_length", b"\r\ntransfer_encoding")
_MOST_DIGITS = 1000
#: What a line may hold: everything but control characters, of which the tab is allowed.
_TEXT = bytes({*range(0x20, 0x7F), *range(0x80, 0x100), 0x09})
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Visible text and blanks: no control character, and no line end of one byte.
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")


class Refused(Exception):  # noqa: N818 - the name says what happened to the request
    """Status, the problem's name, and a sentence for people."""

    def __init__(self, status: int, name: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail


class Walk(NamedTuple):
    """How far a chunked body has been looked at: where a chunk begins, and the bytes of the chunks before it."""

    position: int = 0
    payload: int = 0


class Arrival(NamedTuple):
    """What is known of the first request in some bytes.

    `missing` are bytes that it lacks, 1 when it is not known how many; 0 or less when it is whole, or the parser's to
    refuse. An `oversized` body is not waited for.
    """

    missing: int
    walk: Walk = Walk()
    oversized: bool = False


WHOLE = Arrival(0)
_START = Walk()


def arrival(data: bytes, walk: Walk = _START, most_bytes: int | None = None) -> Arrival:
    """Whether a whole request has arrived. Raises `Refused`.

    Args:
        walk: of the call before, with less of the same bytes.
        most_bytes: longest body; None is any.
    """
    end = data.find(END)
    if end < 0:
        _check_lines(data[: LONGEST_HEAD + 1])
        return Arrival(int(len(data) < LONGEST_HEAD))
    head, body = data[: end + 2], end + len(END)
    _check_lines(head)
    lower = head.lower()
    lengths, encodings = lower.count(_LENGTH), lower.count(_ENCODING)
    if lengths + encodings > 1 or (b"_" in lower and any(name in lower for name in _MISSPELT)):
        raise _malformed("what says where the body ends is misspelt, or there twice")
    if lengths:
        length = _length(lower)
        oversized = most_bytes is not None and length > most_bytes
        return Arrival(0, oversized=True) if oversized else Arrival(length - (len(data) - body))
    if not encodings:
        return WHOLE
    _check_coding(lower)
    return _chunks(data, walk if walk.position else Walk(body), most_bytes)


def check_chunk_line(line: bytes) -> int:
    """The size that the first line of a chunk tells; raises `Refused`."""
    found = _CHUNK_SIZE.fullmatch(line)
    if found is None:
        raise _malformed("a chunk does not begin with its size in hexadecimal digits")
    return int(found[1], 16)


def check_trailers(trailers: bytes) -> None:
    """Raises `Refused` for trailers that are too long, or hold a line end of one byte."""
    if len(trailers) > LONGEST_TRAILERS:
        raise Refused(431, "many-headers", "there are too many trailers, or they are too long")
    _check_lines(trailers)


def _length(head: bytes) -> int:
    value = _value(head, _LENGTH)
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        raise _malformed("Content-Length is no whole number in decimal digits")
    return int(value)


def _check_coding(head: bytes) -> None:
    codings = [coding.strip(b" \t") for coding in _value(head, _ENCODING).split(b",")]
    if codings == [b"chunked"]:
        return
    if not all(_TOKEN.fullmatch(coding) for coding in codings) or codings.count(b"chunked") > 1:
        raise _malformed("Transfer-Encoding is no list of codings")
    raise Refused(501, "transfer-coding", "the server knows no other transfer coding than chunked")


def _value(head: bytes, name: bytes) -> bytes:
    """What stands behind the colon of a header that is there; a blank before the colon is refused."""
    start = head.index(name) + len(name)
    if head[start : start + 1] != b":":
        raise _malformed("the header that says where the body ends is misspelt")
    return head[start + 1 : head.index(b"\r\n", start)].strip(b" \t")


def _chunks(data: bytes, walk: Walk, most_bytes: int | None) -> Arrival:
    position, payload = walk
    while (line := data.find(b"\r\n", position)) >= 0:
        size = check_chunk_line(data[position:line])
        payload += size
        if most_bytes is not None and payload > most_bytes:
            return Arrival(0, Walk(position, payload), oversized=True)
        if not size:  # what follows are trailers, mostly none
            end = line if data.startswith(b"\r\n", line + 2) else data.find(END, line)
            check_trailers(data[line : end + 2 if end >= 0 else len(data)])
            return Arrival(int(end < 0), Walk(position, payload))
        after = line + 2 + size + 2
        if not b"\r\n".startswith(data[after - 2 : after]):
            raise _malformed("a chunk is not as long as it says")
        if after > len(data):
            return Arrival(after - len(data), Walk(position, payload - size))
        position = after
    rest = data[position : position + LONGEST_CHUNK_LINE + 1]
    if len(rest) > LONGEST_CHUNK_LINE or b"\n" in rest:
        raise _malformed("the first line of a chunk does not end")
    return Arrival(1, Walk(position, payload))


def _check_lines(head: bytes) -> None:
    """Every line ends in CR and LF, and none holds a control character; a CR at the end may be half an end."""
    ends = head.translate(None, _TEXT)
    if ends != b"\r\n" * (len(ends) // 2) + b"\r" * (len(ends) % 2 and head.endswith(b"\r")):
        raise _malformed("this is no HTTP request that the server understands")


def _malformed(detail: str) -> Refused:
    return Refused(400, "not-http", detail)
