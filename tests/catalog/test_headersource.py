"""Headers out of plain and compressed files: the same bytes, and the same files refused."""

from __future__ import annotations

import bz2
import gzip
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.images import FAMILIES

from soda_service.catalog import headersource
from soda_service.catalog.headersource import HeaderSource
from soda_service.errors import CorruptFileError, SodaServiceError, UnknownDatasetError
from soda_service.storage.cache import InflatedCache

if TYPE_CHECKING:
    from pathlib import Path

    from support.archive import Archive

_LIMIT = 10**9
CONTENT = np.random.default_rng(5).integers(0, 1000, 2_000_000, dtype="i4").tobytes()

FILES = {
    "plain": CONTENT,
    "gzip": gzip.compress(CONTENT, 1),
    "members": gzip.compress(CONTENT[:777], 1) + gzip.compress(CONTENT[777:], 1),
    "padded": gzip.compress(CONTENT, 1) + bytes(1000),
    "junk": gzip.compress(CONTENT, 1) + b"junk",
    "bzip2": bz2.compress(CONTENT, 1),
}

DAMAGED = {
    "cut off": gzip.compress(CONTENT, 1)[:-1],
    "half": gzip.compress(CONTENT, 1)[:100_000],
    "check sum": gzip.compress(CONTENT, 1)[:-8] + bytes(8),
    "bzip2 half": bz2.compress(CONTENT, 1)[:100_000],
    "compress": b"\x1f\x9d\x90" + bytes(100),
    "bomb": gzip.compress(bytes(200_000_000), 9),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("kept", [0, 5000, 1 << 20])
def test_any_reading_gives_what_the_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, kept: int
) -> None:
    monkeypatch.setattr(headersource, "_KEPT", kept)
    path = tmp_path / "file"
    path.write_bytes(FILES[kind])
    chance = random.Random(7)
    ranges = [(0, 2880), (0, 10), (len(CONTENT) - 5, 100), (len(CONTENT), 1), (10**10, 5)]
    ranges += [(chance.randrange(len(CONTENT)), chance.randrange(3_000_000)) for _ in range(8)]
    with HeaderSource(str(path), inflated_limit=_LIMIT) as source:
        assert source.size == len(CONTENT)
        for start, length in ranges:
            assert source.read_at(start, length) == CONTENT[start : start + length]


def test_what_is_passed_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(FILES["gzip"])
    with HeaderSource(str(path), inflated_limit=_LIMIT) as source:
        source.read_at(len(CONTENT) - 10, 10)
        assert source._stream is not None
        assert len(source._stream._window) <= 3 << 20


@pytest.mark.parametrize("kind", [*FILES, *DAMAGED])
def test_ingest_and_cutouts_agree_on_what_can_be_read(tmp_path: Path, kind: str) -> None:
    """What the catalog takes can be cut, and what it refuses could not."""
    path = tmp_path / "file"
    path.write_bytes({**FILES, **DAMAGED}[kind])

    def ends_well(what: str) -> bool:
        try:
            if what == "ingest":
                HeaderSource(str(path), inflated_limit=100_000_000).close()
            else:
                InflatedCache(tmp_path / "cache", 100_000_000).open(str(path)).close()
        except CorruptFileError as error:
            return str(tmp_path) in str(error) or error.path != str(path)
        return True

    assert ends_well("ingest") == ends_well("cutout") == (kind in FILES)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnknownDatasetError):
        HeaderSource(str(tmp_path / "nothing"), inflated_limit=_LIMIT)
    with pytest.raises(SodaServiceError, match="not a file"):
        HeaderSource(str(tmp_path), inflated_limit=_LIMIT)


def test_a_file_with_junk_behind_its_end_is_ingested(archive: Archive) -> None:
    path = archive.folder / "junk.fits.gz"
    path.write_bytes(gzip.compress(FAMILIES["tan"]()) + b"junk that gzip -t warns of")
    report = archive.ingest()
    assert (report.added, report.failed) == (1, [])
