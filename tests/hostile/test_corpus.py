"""Files that lie, break off or mean harm, through the real commands and over the wire.

One folder holds all of them, among files that are sound. Ingest must name the bad ones with
the reason; the server must say what is wrong with the others, and neither may die, hang or
grow. `support.wire` looks at every answer for paths and tracebacks.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2
import pytest
from support.command import served
from support.cutouts import File, slices_of
from support.hostile import INFLATED_LIMIT, SPECIMENS, Fate, specimen_file
from support.images import HEIGHT, WIDTH, ramp, write_family
from support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from support.command import Served

SECONDS: Final = 120
"""Longest that all of it may be read; a tenth is usual."""
INGEST_MEMORY: Final = 400_000_000
"""Bytes of any process of an ingest; 170 MB are usual."""
SERVER_MEMORY: Final = 250_000_000
"""Bytes of the server; 160 MB are usual."""
CIRCLE: Final = "150.1 2.2 0.002"
EVERYWHERE: Final = "RANGE 0 360 -90 90"
SOUND: Final = ("mef", "tan_sip", "compressed_rice_1_i2")
"""Files of the zoo that lie among the others."""

_MEASURED: Final = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "soda_service", *sys.argv[1:]]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True)
class Archive:
    """The folder and what became of it."""

    wire: Wire
    said: str
    """By ingest."""
    code: int
    """That ingest ended with."""
    peak: int
    """Bytes of memory of its largest process."""
    server: Served

    def line_about(self, name: str) -> str | None:
        """What ingest said of a file; None where it took it."""
        return next((line for line in self.said.splitlines() if f"/{name}: " in line), None)

    def get(self, name: str, **asked: str) -> httpx2.Response:
        """The answer to a request for a cutout."""
        return self.wire.get("soda/sync", ID=f"ivo://demo.invalid/data?{name}", **asked)


def _environment() -> dict[str, str]:
    return {**os.environ, "SODA_CACHE_BYTES": str(INFLATED_LIMIT)}


@pytest.fixture(scope="module", name="archive")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("hostile")
    data = folder / "data"
    data.mkdir()
    for name in SPECIMENS:
        (data / specimen_file(name)).write_bytes(SPECIMENS[name].make())
    for family in SOUND:
        write_family(family, data)
    _odd_entries(data)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, "ingest", "data"],
        cwd=folder, env=_environment(), capture_output=True, text=True, check=False,
        timeout=SECONDS,
    )  # fmt: skip
    said, _, peak = (done.stdout + done.stderr).partition("peak ")
    assert peak, said[-3000:]
    with (
        served("serve", folder=folder, environment=_environment()) as server,
        httpx2.Client(timeout=30, trust_env=False) as client,
    ):
        wire = Wire(base=server.base, folder=folder, client=client)
        kilobytes, _, errors = peak.partition("\n")
        yield Archive(wire, said + errors, done.returncode, int(kilobytes) * 1024, server)


ODD: Final = (
    "folder.fits", "pipe.fits", "socket.fits", "loop.fits", "loop2.fits", "dangling.fits",
    "device.fits", "endless.fits", "unreadable.fits",
)  # fmt: skip


def _odd_entries(data: Path) -> None:
    """Things that are called like files of FITS and are none."""
    (data / "folder.fits").mkdir()
    os.mkfifo(data / "pipe.fits")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(data)  # the path of a socket must be short
        try:
            listener.bind("socket.fits")
        finally:
            os.chdir(here)
    (data / "loop.fits").symlink_to("loop2.fits")
    (data / "loop2.fits").symlink_to("loop.fits")
    (data / "dangling.fits").symlink_to("nowhere.fits")
    (data / "device.fits").symlink_to("/dev/zero")
    (data / "folder.fits" / "back.fits").symlink_to("../..")
    sound = (data / "tan_sip.fits").read_bytes()
    with (data / "endless.fits").open("wb") as file:
        file.write(sound[:2800])
        file.truncate(100_000_000)  # a header of a hundred megabytes that occupies a few blocks
    (data / "unreadable.fits").write_bytes(sound)
    (data / "unreadable.fits").chmod(0)


def of(*fates: Fate) -> list[str]:
    """Names of the specimens with these fates."""
    return [name for name, one in SPECIMENS.items() if one.fate in fates]


# ---------------------------------------------------------------- ingest


def test_ingest_ends_well(archive: Archive) -> None:
    """It says that some were skipped, shows nobody its inside, and stays small."""
    assert archive.code == 1
    assert "Traceback" not in archive.said
    assert "died of" not in archive.said
    assert archive.peak < INGEST_MEMORY


@pytest.mark.parametrize("name", of(Fate.REFUSED))
def test_what_is_refused_is_named_with_its_reason(archive: Archive, name: str) -> None:
    """Which HDU, which card or which byte."""
    line = archive.line_about(specimen_file(name))
    assert line is not None, archive.said[-1500:]
    assert re.search(SPECIMENS[name].says, line), line
    assert len(line) < 600
    answer = archive.get(specimen_file(name), CIRCLE=CIRCLE)
    assert answer.status_code == 404


@pytest.mark.parametrize("name", of(Fate.SERVED, Fate.NO_SKY, Fate.DAMAGED))
def test_what_is_not_refused_is_a_dataset(archive: Archive, name: str) -> None:
    """Ingest has nothing to say of it."""
    assert archive.line_about(specimen_file(name)) is None


@pytest.mark.parametrize("name", ODD)
def test_odd_entries_of_the_folder_are_no_datasets(archive: Archive, name: str) -> None:
    """And stop nobody."""
    if name == "unreadable.fits" and os.geteuid() == 0:
        pytest.skip("root reads everything")
    assert archive.get(name, CIRCLE=CIRCLE).status_code == 404
    if name == "endless.fits":
        line = archive.line_about(name)
        assert line is not None
        assert "no END" in line


def test_they_may_be_given_by_name(archive: Archive) -> None:
    """`ingest` of such things alone ends, too, having named each."""
    names = [*ODD[1:7], "nothing of the kind"]
    done = subprocess.run(
        [sys.executable, "-m", "soda_service", "ingest", *(f"data/{name}" for name in names)],
        cwd=archive.wire.folder, env=_environment(), capture_output=True, text=True, check=False,
        timeout=30, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert done.returncode == 1
    assert [name for name in names if f"/{name}: " not in said] == []


# ---------------------------------------------------------------- over the wire


@pytest.mark.parametrize("name", of(Fate.SERVED))
def test_the_sound_part_is_served(archive: Archive, name: str) -> None:
    """Pixels to the bit."""
    answer = archive.get(specimen_file(name), CIRCLE=CIRCLE)
    assert answer.status_code == 200, answer.text[:300]
    images = [one for one in File(answer.content).hdus if one.section is not None]
    assert images
    one = images[0]
    assert one.section is not None
    assert one.stored is not None
    start = 0.5 if name.startswith("cut_at") else 0
    expected = _expected(start, len(one.section[1]))[slices_of(one.section[1])]
    assert one.stored.tobytes() == expected.astype(">f4").tobytes()


def _expected(start: float, axes: int) -> np.ndarray:
    naxis = (WIDTH, HEIGHT) if axes == 2 else (WIDTH, HEIGHT, 2)
    return ramp(*naxis, start=start)


@pytest.mark.parametrize("name", of(Fate.NO_SKY))
def test_without_coordinates_the_card_is_named(archive: Archive, name: str) -> None:
    """By sky an error of the client; the file itself goes out."""
    answer = archive.get(specimen_file(name), CIRCLE=CIRCLE)
    assert answer.status_code == 400
    assert answer.text.startswith("UsageError: ")
    if "no image of it has celestial" not in answer.text:
        assert re.search(SPECIMENS[name].says, answer.text), answer.text
    assert len(answer.text) < 700
    whole = archive.get(specimen_file(name))
    assert whole.content == SPECIMENS[name].make()


@pytest.mark.parametrize("name", of(Fate.NO_SKY))
def test_without_coordinates_a_section_is_cut(archive: Archive, name: str) -> None:
    """In pixels it works, whatever the coordinates say."""
    is_row = name == "lies_naxis_too_small"  # so it says
    answer = archive.get(specimen_file(name), PIXELS="[5:9]" if is_row else "[5:9,3:4]")
    assert answer.status_code == 200, answer.text
    images = [one for one in File(answer.content).hdus if one.section is not None]
    one = images[0]
    assert one.section is not None
    assert one.section[1][:2] == (((5, 9),) if is_row else ((5, 9), (3, 4)))
    assert one.stored is not None
    mother = ramp(WIDTH, HEIGHT)
    expected = (mother[0] if is_row else mother)[slices_of(one.section[1])]
    assert one.stored.tobytes() == expected.astype(">f4").tobytes()


@pytest.mark.parametrize("name", of(Fate.DAMAGED))
def test_damaged_pixels_are_an_error_that_names_the_hdu(archive: Archive, name: str) -> None:
    """Before the first byte, or the connection breaks: never a whole answer."""
    try:
        answer = archive.get(specimen_file(name), POS=EVERYWHERE)
    except httpx2.RemoteProtocolError:
        return
    assert answer.status_code == 500
    assert re.search(SPECIMENS[name].says, answer.text), answer.text


@pytest.mark.parametrize("name", of(Fate.ANY, Fate.SERVED, Fate.NO_SKY, Fate.DAMAGED))
def test_whatever_is_asked_is_answered(archive: Archive, name: str) -> None:
    """Links and cutouts of every kind, with a status that means something."""
    file = specimen_file(name)
    known = archive.line_about(file) is None
    links = archive.wire.get("datalink/links", ID=f"ivo://demo.invalid/data?{file}")
    assert links.status_code == 200
    assert (b"NotFoundFault" in links.content) != known
    asked = (  # every kind of cutout
             {"CIRCLE": CIRCLE}, {"POS": EVERYWHERE}, {"BAND": "1e-7 1"}, {"POL": "I"},
             {"PIXELS": "[2:3,*]"}, {"STAMP": "150.1 2.2 8"}, {"CIRCLE": CIRCLE, "COMPRESS": "fz"},
             {"CIRCLE": CIRCLE, "PROOF": "1"}, {"CIRCLE": CIRCLE, "MASK": "1", "EDGE": "pad"},
    )  # fmt: skip
    for one in asked:
        try:
            answer = archive.get(file, **one)
        except httpx2.RemoteProtocolError:
            assert SPECIMENS[name].fate in {Fate.ANY, Fate.DAMAGED}
            continue
        assert answer.status_code in ({200, 204, 400, 500} if known else {404})
        if answer.status_code == 200:
            assert answer.content.startswith(b"SIMPLE  =")
            assert not len(answer.content) % 2880
        elif answer.status_code != 204:
            assert re.match("(UsageError|Error): .{10,}", answer.text), answer.text
            assert "internal error" not in answer.text, "the fault is the file's"


@pytest.mark.parametrize("family", SOUND)
def test_sound_files_among_them_are_served(archive: Archive, family: str) -> None:
    """At the end of it all, too."""
    name = "compressed_rice_1_i2.fits.fz" if family.startswith("comp") else f"{family}.fits"
    assert archive.get(name, CIRCLE=CIRCLE).status_code == 200


def test_the_server_lives_and_is_no_larger(archive: Archive) -> None:
    """After everything above, when the tests stand in their order; at any time otherwise."""
    archive.wire.assert_alive()
    assert archive.server.process.poll() is None
    assert not [line for line in archive.server.log if "unexpected" in line]
    status = Path(f"/proc/{archive.server.process.pid}/status")
    if status.exists():
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        assert peak is not None
        assert int(peak[1]) * 1024 < SERVER_MEMORY
