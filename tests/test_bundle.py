"""The bundle on disk: all or nothing when written, every byte verified when read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import bundle
from models.bundle import MANIFEST, MODEL, REFERENCE, SCHEMA, SERVED_FILES, BundleError, read_bundle, read_manifest
from tests.bundles import SAMPLE_SCHEMA, sample_bundle


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "registry" / "1"


def test_a_bundle_is_read_as_it_was_written(place: Path) -> None:
    digest = sample_bundle(place)
    read = read_bundle(place, digest, REFERENCE)
    assert (read.schema, read.manifest_sha256) == (SAMPLE_SCHEMA, digest)
    assert read.extra == {REFERENCE: b"{}"}
    assert set(read.manifest.files) == {*SERVED_FILES, REFERENCE}


@pytest.mark.parametrize("name", SERVED_FILES)
@pytest.mark.parametrize("damage", ["altered", "cut", "gone"])
def test_a_damaged_file_is_refused_by_name(place: Path, name: str, damage: str) -> None:
    sample_bundle(place)
    content = (place / name).read_bytes()
    if damage == "gone":
        (place / name).unlink()
    else:
        (place / name).write_bytes(content[:-1] if damage == "cut" else content[:-1] + b"?")
    with pytest.raises(BundleError, match=name):
        read_bundle(place)


def test_a_manifest_that_is_not_the_promoted_one_is_refused(place: Path) -> None:
    digest = sample_bundle(place, seed=1)
    sample_bundle(place, seed=2)
    with pytest.raises(BundleError, match="is not the one that was promoted"):
        read_bundle(place, digest)


@pytest.mark.parametrize("name", [MANIFEST, SCHEMA])
def test_a_newer_format_is_refused_as_such(place: Path, name: str) -> None:
    sample_bundle(place, schema=json.dumps({"format_version": 99}).encode())
    if name == MANIFEST:
        (place / MANIFEST).write_text(json.dumps({"format_version": 99}))
    with pytest.raises(BundleError, match=rf"{name}.*99"):
        read_bundle(place)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"registered_name": 3}', b"\xff\xfe"])
def test_a_torn_manifest_is_refused_in_a_sentence(place: Path, content: bytes) -> None:
    sample_bundle(place)
    (place / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=MANIFEST):
        read_manifest(place)


def test_where_there_is_no_bundle_it_is_said(place: Path) -> None:
    with pytest.raises(BundleError, match=rf"1: {MANIFEST} cannot be read: No such file"):
        read_bundle(place)


def test_a_file_that_the_manifest_does_not_name_is_not_read(place: Path) -> None:
    sample_bundle(place)
    (place / "more.json").write_text("{}")
    with pytest.raises(BundleError, match=r"does not name more\.json"):
        read_bundle(place, None, "more.json")


def test_a_kill_before_the_rename_leaves_no_bundle(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "sync_directory", killed)
        with pytest.raises(KeyboardInterrupt):
            sample_bundle(place)
    assert not place.exists()
    digest = sample_bundle(place)  # and the next one is not disturbed by what is left
    assert read_bundle(place, digest).manifest.files[MODEL].size > 0
    assert [path.name for path in place.parent.iterdir()] == ["1"]
