"""UUIDv7: form, order, forks."""

from __future__ import annotations

import os
import uuid

from monitoring.ids import IdSource, uuid7


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    text = IdSource(milliseconds=lambda: 1_700_000_000_123).take(1)[0]
    parsed = uuid.UUID(text)
    assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_700_000_000_123


def test_ids_increase_while_the_clock_stands_still_and_goes_back() -> None:
    moments = iter([5000] * 500 + [4000] * 500 + [6000] * 10)
    ids = IdSource(milliseconds=lambda: next(moments)).take(1010)
    assert ids == sorted(set(ids))


def test_ids_increase_across_an_overflow_of_the_random_bits() -> None:
    source = IdSource(milliseconds=lambda: 5000, random_bytes=lambda count: b"\xff" * count)
    source.take(1)
    source._random = (1 << 74) - 2
    before, after = source.take(1)[0], source.take(2)
    assert before < after[0] < after[1]


def test_a_forked_process_makes_other_ids_than_its_parent() -> None:
    source = IdSource(milliseconds=lambda: 5000)
    source.take(1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(source.take(20)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 36 * 20).decode()
    os.close(reading)
    os.close(writing)
    assert not set(source.take(20)) & {theirs[i : i + 36] for i in range(0, len(theirs), 36)}


def test_the_shared_source_makes_distinct_ids() -> None:
    assert len({uuid7() for _ in range(1000)}) == 1000
