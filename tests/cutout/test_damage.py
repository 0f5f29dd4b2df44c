"""Damaged files, and files that change between plan and cut: errors, never wrong bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from support.cutouts import File, compare, slices_of
from support.images import DAMAGED_FAMILIES, FAMILIES, file_name, write_family

from soda_service.errors import (
    CorruptFileError,
    SodaServiceError,
    SourceUnavailableError,
    UnknownDatasetError,
)
from soda_service.geometry.shapes import Circle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.cutouts import Subject, Workbench

    from soda_service.cutout.plan import CutoutPlan

SHAPE: Final = Circle(150.1, 2.2, 0.001)
GONE: Final = (SourceUnavailableError, CorruptFileError, UnknownDatasetError)
"""What may be said of a file that is not what it was."""
WHERE_TILES_ARE: Final = "tiles_outside_the_heap"
"""The family whose damage is in the data, where indexing does not look."""


@pytest.mark.parametrize("name", [name for name in DAMAGED_FAMILIES if name != WHERE_TILES_ARE])
def test_damaged_files_are_refused_when_they_are_indexed(
    bench: Workbench, name: str, tmp_path: Path
) -> None:
    """As corrupt, with the reason and without the path."""
    path = write_family(name, tmp_path)
    with pytest.raises(CorruptFileError) as caught:
        bench.of(path)
    assert str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_damaged_tiles_are_an_error_when_they_are_read(bench: Workbench, tmp_path: Path) -> None:
    """And only then; the cutter goes on with what is sound."""
    subject = bench.of(write_family(WHERE_TILES_ARE, tmp_path))
    damaged = subject.plan(Circle(*_place(subject, 30, 1), 0.0003))
    sound = subject.plan(Circle(*_place(subject, 30, 40), 0.0003))
    assert damaged is not None
    assert sound is not None
    for _ in range(2):
        with pytest.raises(CorruptFileError):
            list(subject.cutter.cut(damaged))
        made = File(subject.made(sound)).hdus[1]
        assert made.section is not None
        assert made.stored is not None
        whole = bench.family("compressed_rice_1_i4").parent.hdus[1].stored
        assert whole is not None
        assert made.stored.tobytes() == whole[slices_of(made.section[1])].tobytes()
    subject.cutter.close()


def _place(subject: Subject, x: float, y: float) -> tuple[float, float]:
    sky = subject.grid(1).pixel_to_sky(np.array([x]), np.array([y]))[:, 0]
    return float(np.degrees(np.arctan2(sky[1], sky[0])) % 360), float(np.degrees(np.arcsin(sky[2])))


# ---------------------------------------------------------------- files that change


def _truncate(path: Path) -> None:
    os.truncate(path, 4000)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes().replace(b"\x00\x01", b"\x7f\x7f"))
    other.rename(path)


def _replace_by_text(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(b"no image any more\n" * 2000)
    other.rename(path)


def _overwrite(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(3000)
        file.write(b"\xaa" * (size - 3000))
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


def _delete(path: Path) -> None:
    path.unlink()


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: Final = (
    _truncate, _empty, _replace, _replace_by_text, _overwrite, _delete, _become_a_folder,
)  # fmt: skip
NAMES: Final = ("tan", "mef", "compressed_rice_1_i2", "gzipped", "lookup_distortion")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("asked", [SHAPE, None], ids=["cutout", "whole"])
def test_a_file_that_changes_between_plan_and_cut(
    bench: Workbench,
    tmp_path: Path,
    change: Callable[[Path], None],
    name: str,
    is_warm: bool,
    asked: Circle | None,
) -> None:
    """Either the bytes that were planned, from the file that is still open, or an error."""
    path = tmp_path / file_name(name)
    path.write_bytes(FAMILIES[name]())
    subject = bench.of(path)
    plan = subject.plan(asked)
    assert plan is not None
    expected = b"".join(subject.cutter.cut(plan))
    if not is_warm:
        subject.cutter.close()
        subject = bench.of(path)
        plan = subject.plan(asked)
        assert plan is not None
    change(path)
    for _ in range(2):
        sent, error = received(subject, plan)
        if error is None:
            assert sent == expected
        else:
            assert isinstance(error, GONE)
            assert str(tmp_path) not in str(error)
            assert expected.startswith(sent)
            assert len(sent) < len(expected)
    # A plan of what is gone is no better, and what is sound is as it was.
    other = bench.family("tan_sip")
    assert compare(other, _cut(other)).values == 0
    subject.cutter.close()


def received(subject: Subject, plan: CutoutPlan) -> tuple[bytes, SodaServiceError | None]:
    """What a client gets of a plan, and what went wrong."""
    sent = bytearray()
    try:
        pieces = subject.cutter.cut_resident(plan)
        if pieces is not None:
            return b"".join(pieces), None
        for chunk in subject.cutter.cut(plan):
            sent += chunk
    except SodaServiceError as error:
        return bytes(sent), error
    return bytes(sent), None


def _cut(subject: Subject) -> bytes:
    contents = subject.cut(SHAPE)
    assert contents is not None
    return contents


@pytest.mark.parametrize("change", CHANGES)
def test_preparing_a_file_that_has_changed(
    bench: Workbench, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Where planning itself must read tables out of the file."""
    path = tmp_path / file_name("lookup_distortion")
    path.write_bytes(FAMILIES["lookup_distortion"]())
    subject = bench.of(path)
    change(path)
    with pytest.raises(GONE):
        subject.plan(SHAPE)
    subject.cutter.close()


def test_a_reader_that_stops_early_leaves_nothing_open(bench: Workbench) -> None:
    """A client that goes away in the middle."""
    subject = bench.family("mef")
    plan = subject.plan(SHAPE)
    assert plan is not None
    for _ in range(3):
        chunks = subject.cutter.cut(plan)
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]  # it is a generator
    assert subject.made(plan)
