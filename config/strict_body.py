"""The bodies that a thread reads on, under the rules of `request_framing`."""

from __future__ import annotations

from typing import Any

from gunicorn.http.body import Body, ChunkedReader, LengthReader  # type: ignore[import-untyped]
from gunicorn.http.errors import NoMoreData  # type: ignore[import-untyped]

from config.request_framing import END, LONGEST_CHUNK_LINE, Refused, check_chunk_line, check_trailers


class StrictChunks(ChunkedReader):  # type: ignore[misc]
    """gunicorn's reader of chunks, which takes more than RFC 9112 allows and reads without end, made strict.

    Raises `Refused`, of status 413 as soon as chunks say that they are more than `most_bytes` together.
    """

    def __init__(self, req: Any, unreader: Any, most_bytes: int | None) -> None:
        super().__init__(req, unreader)
        self._left = most_bytes

    def parse_chunk_size(self, unreader: Any, data: bytes | None = None) -> Any:
        data = data or b""
        while (end := data.find(b"\r\n")) < 0 and len(data) <= LONGEST_CHUNK_LINE:
            data += _more(unreader)
        size = check_chunk_line(data[:end] if end >= 0 else data)
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                self.req.force_close()
                raise Refused(413, "too-many-bytes", "the body is longer than a request's may be")
        return super().parse_chunk_size(unreader, data=data)

    def parse_trailers(self, unreader: Any, data: bytes) -> Any:
        while not data.startswith(b"\r\n") and END not in data:
            check_trailers(data)
            data += _more(unreader)
        if not data.startswith(b"\r\n"):
            check_trailers(data[: data.find(END) + 2])
        return super().parse_trailers(unreader, data)


def restrict(req: Any, unreader: Any, most_bytes: int | None) -> None:
    """Gives a parsed request, of which nothing has been read, a strict body; one that is too long by its own word has
    none, and ends the connection."""
    reader = req.body.reader
    if isinstance(reader, ChunkedReader):
        req.body = Body(StrictChunks(req, unreader, most_bytes))
    elif most_bytes is not None and isinstance(reader, LengthReader) and reader.length > most_bytes:
        req.force_close()
        req.body = Body(LengthReader(unreader, 0))


def _more(unreader: Any) -> bytes:
    data: bytes = unreader.read()
    if not data:
        raise NoMoreData()
    return data
