"""What hostile, careless and unlucky clients and operators send and do; the service goes on.

Everything here happens to a service of its own, over a folder of files that are changed under
its feet. `support.wire` looks at every answer for paths and tracebacks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from support.command import run_command, served
from support.documents import assert_valid_votable
from support.images import DAMAGED_FAMILIES, FAMILIES, file_name, primary, sky_cards
from support.service import most_on_its_way
from support.tables import rows_of, status_of
from support.wire import Answer, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.command import Served

SYNC = "soda/sync"
CIRCLE = "150.1 2.2 0.001"
EVERYWHERE = "150.1 2.2 90"
BIG = (2300, 2500)  # 23 MB: more than all buffers between a server and its client can hold


def did(name: str) -> str:
    """The identifier of a file in the folder."""
    return f"ivo://demo.invalid/data?{name}"


def image(value: float, naxis: tuple[int, int] = (61, 47)) -> bytes:
    """A file whose pixels are all *value*, so that a mixture of two would show."""
    crpix = (naxis[0] / 2, naxis[1] / 2)
    pixels = np.full(naxis[::-1], value, "f4")
    return primary(pixels, sky_cards(crpix=crpix, cdelt=(-1e-4, 1e-4)))


@dataclass(frozen=True)
class Fragile:
    """The service and its files."""

    wire: Wire
    data: Path
    ingested: str
    """What `ingest` said of damaged files."""
    server: Served

    def write(self, name: str, content: bytes) -> None:
        """Put a new file into the place of the old one, as careful programs do."""
        aside = self.data.parent / "aside"
        aside.write_bytes(content)
        aside.replace(self.data / name)

    def cut(self, name: str, circle: str = CIRCLE) -> httpx2.Response:
        """A cutout of a file."""
        return self.wire.get(SYNC, ID=did(name), CIRCLE=circle)


SOUND = ("sound", "in-place", "by-rename", "deleted", "shortened", "grown", "other-kind", "reader")

ODD_NAMES = (
    "ö b+c&d.fits", "a%20b.fits", "a#b?c.fits", "q'uo\"te.fits", "semi;colon.fits", "☃.fits",
    "<x>&amp;.fits", "back\\slash.fits", "new\nline.fits", "~.fits",
)  # fmt: skip
CUT_LATER = frozenset({"tiles_outside_the_heap"})
"""Damaged families whose damage is where only reading pixels finds it."""


@pytest.fixture(scope="module", name="fragile")
def _fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    folder = tmp_path_factory.mktemp("fragile")
    data = folder / "data"
    data.mkdir()
    for name in SOUND:
        (data / f"{name}.fits").write_bytes(image(1))
    for name in ODD_NAMES:
        (data / name).write_bytes(image(1))
    (data / "big.fits").write_bytes(image(1, BIG))
    for family in DAMAGED_FAMILIES:
        (data / file_name(family)).write_bytes(FAMILIES[family]())
    done = run_command("ingest", "data", folder=folder)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f", {len(DAMAGED_FAMILIES) - len(CUT_LATER)} skipped" in said
    with (
        served("serve", folder=folder) as server,
        httpx2.Client(timeout=60, trust_env=False) as client,
    ):
        yield Fragile(Wire(base=server.base, folder=folder, client=client), data, said, server)


@pytest.fixture(autouse=True)
def _goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test that has to do with a service, that service answers as before."""
    yield
    for name in ("fragile", "wire"):
        if name in request.fixturenames:
            value = request.getfixturevalue(name)
            wire = value.wire if isinstance(value, Fragile) else value
            wire.assert_alive()


# ------------------------------------------------------------------ damaged files in the folder


@pytest.mark.parametrize("family", DAMAGED_FAMILIES)
def test_a_damaged_file_is_named_with_its_reason(fragile: Fragile, family: str) -> None:
    """And skipped; what cannot be seen in headers is an error when its pixels are asked for."""
    name = file_name(family)
    lines = [line for line in fragile.ingested.splitlines() if f"/{name}: " in line]
    if family in CUT_LATER:
        answer = fragile.cut(name, EVERYWHERE)
        assert answer.status_code == 500
        assert answer.text.startswith("Error: ")
        return
    assert len(lines) == 1
    assert lines[0].startswith("skipped ")
    assert len(lines[0].rpartition(": ")[2]) > 5
    assert fragile.cut(name).status_code == 404


def test_the_sound_files_among_them_work(fragile: Fragile) -> None:
    """All of them are found, and cut."""
    names = {row["obs_publisher_did"] for row in rows_of(fragile.wire.get("sia/query").content)}
    assert {did(f"{name}.fits") for name in SOUND} <= names
    (hdu,) = fits.HDUList.fromstring(fragile.cut("sound.fits").content)
    assert set(hdu.data.flat) == {1.0}


def test_files_of_odd_names_can_be_followed(fragile: Fragile) -> None:
    """Letters that mean something in URLs, in XML, in headers: every link works all the same."""
    rows = rows_of(fragile.wire.get("sia/query").content)
    plain = {did(f"{name}.fits") for name in (*SOUND, "big")} | {
        did(file_name(one)) for one in CUT_LATER
    }
    odd = [row for row in rows if row["obs_publisher_did"] not in plain]
    assert len(odd) == len(ODD_NAMES)
    for row in odd:
        links = rows_of(fragile.wire.get(row["access_url"]).content)
        (this,) = (one for one in links if one["semantics"] == "#this")
        whole = fragile.wire.get(this["access_url"])
        assert whole.content == image(1)
        cut = fragile.wire.get(SYNC, ID=row["obs_publisher_did"], CIRCLE=CIRCLE)
        for answer in (whole, cut):
            assert answer.status_code == 200
            assert "\n" not in answer.headers["content-disposition"]


# ------------------------------------------------------------------ files that change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("in-place.fits", lambda path, content: path.write_bytes(content)),
        ("by-rename.fits", None),
    ],
)
def test_a_file_that_is_replaced_is_served_anew(
    fragile: Fragile, name: str, change: Callable[[Path, bytes], int] | None
) -> None:
    """Every answer is of one version, and the next one of the newest."""
    tags = set()
    for value in range(2, 8):
        content = image(value, (61, 47 + value))
        if change is None:
            fragile.write(name, content)
        else:
            change(fragile.data / name, content)
        answer = fragile.cut(name)
        assert answer.status_code == 200, answer.text
        (hdu,) = fits.HDUList.fromstring(answer.content)
        assert set(hdu.data.flat) == {float(value)}
        tags.add(answer.headers["etag"])
        assert fragile.wire.get(f"files/data/{name}").content == content
        assert fragile.wire.get(SYNC, ID=did(name)).content == content
        links = rows_of(fragile.wire.get("datalink/links", ID=did(name)).content)
        assert int(links[0]["content_length"]) == len(content)
    assert len(tags) == 6


def test_a_file_that_is_replaced_while_many_read_it(fragile: Fragile) -> None:
    """No mixture, no server error but `try again`; and it settles on the last version."""
    name = "reader.fits"
    fragile.write(name, image(1))
    stop = threading.Event()
    statuses: list[int] = []

    def read() -> None:
        with httpx2.Client(timeout=60, trust_env=False) as client:
            while not stop.is_set():
                url = fragile.wire.url(SYNC, ID=did(name), CIRCLE=CIRCLE)
                answer = client.get(url)
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    (hdu,) = fits.HDUList.fromstring(answer.content)
                    assert len(set(hdu.data.flat)) == 1
                else:
                    assert answer.text.startswith(("ServiceUnavailable: ", "UsageError: "))

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        end = time.monotonic() + 60
        for value in count(2):
            fragile.write(name, image(value))
            # Where that is too fast for anybody to be served in between, ever more slowly.
            time.sleep(0.01 * max(1, value - 28))
            is_seen = 200 in statuses or any(reader.done() for reader in readers)
            if value >= 29 and (is_seen or time.monotonic() > end):
                break
        stop.set()
        for reader in readers:
            reader.result(60)
    assert 200 in statuses
    assert set(statuses) <= {200, 503}
    (hdu,) = fits.HDUList.fromstring(fragile.cut(name).content)
    assert set(hdu.data.flat) == {float(value)}


def test_a_file_that_is_deleted(fragile: Fragile) -> None:
    """404 in each protocol's form; and 200 when it is back."""
    name = "deleted.fits"
    assert fragile.cut(name).status_code == 200
    (fragile.data / name).unlink()
    for asked in ({"CIRCLE": CIRCLE}, {}, {"CHECKSUM": "1"}):
        answer = fragile.wire.get(SYNC, ID=did(name), **asked)
        assert answer.status_code == 404
        assert answer.text.startswith("UsageError: ")
    answer = fragile.wire.get("datalink/links", ID=[did(name), did("sound.fits")])
    rows = rows_of(answer.content)
    assert rows[0]["error_message"].startswith("NotFoundFault: ")
    assert rows[1]["ID"] == did("sound.fits")
    assert fragile.wire.get(f"files/data/{name}").status_code == 404
    assert fragile.wire.get("sia/query").status_code == 200
    assert fragile.wire.get("").status_code == 200
    assert fragile.wire.get("soda/examples").status_code == 200
    fragile.write(name, image(5))
    (hdu,) = fits.HDUList.fromstring(fragile.cut(name).content)
    assert set(hdu.data.flat) == {5.0}


@pytest.mark.parametrize(
    "content",
    [image(1)[:-5000], image(1)[:1000], b"", b"nonsense" * 400, FAMILIES["text"](),
     FAMILIES["lying_naxis"]()],
    ids=["half", "header", "empty", "nonsense", "html", "lying"],
)  # fmt: skip
def test_a_file_that_is_damaged_later(fragile: Fragile, content: bytes) -> None:
    """500 `Error`, a row with FatalFault; and all is well when it is whole again."""
    name = "shortened.fits"
    fragile.write(name, image(1))
    assert fragile.cut(name).status_code == 200
    with (fragile.data / name).open("r+b") as file:
        file.truncate(0)
        file.write(content)
    for _ in range(2):
        answer = fragile.cut(name)
        assert (answer.status_code, answer.text[:7]) == (500, "Error: ")
        answer = fragile.wire.get("datalink/links", ID=did(name))
        assert answer.status_code == 200
        assert rows_of(answer.content)[0]["error_message"].startswith("FatalFault: ")
        assert fragile.cut("sound.fits").status_code == 200
    fragile.write(name, image(7))
    (hdu,) = fits.HDUList.fromstring(fragile.cut(name).content)
    assert set(hdu.data.flat) == {7.0}


def test_a_file_that_becomes_another_kind_of_thing(fragile: Fragile) -> None:
    """A folder, a dangling link, a pipe, a file that may not be read: an error, no hanging."""
    name = "other-kind.fits"
    path = fragile.data / name

    def folder() -> None:
        path.mkdir()

    def dangling() -> None:
        path.symlink_to(fragile.data / "nowhere")

    def pipe() -> None:
        os.mkfifo(path)

    for become in (folder, dangling, pipe):
        assert fragile.cut(name).status_code == 200
        path.unlink()
        become()
        try:
            for answer in (fragile.cut(name), fragile.wire.get(f"files/data/{name}")):
                assert answer.status_code in {404, 500, 503}, become.__name__
                assert answer.text.startswith(("UsageError: ", "Error: ", "ServiceUnavailable: "))
        finally:
            path.rmdir() if path.is_dir() else path.unlink()
        fragile.write(name, image(3))
        assert fragile.cut(name).status_code == 200


def _begin(fragile: Fragile, target: str) -> tuple[socket.socket, HTTPResponse]:
    """A connection on which an answer has begun that nobody reads yet."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", fragile.wire.port))
    connection.sendall(f"GET /{target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    response = HTTPResponse(connection)
    response.begin()
    assert response.status == 200
    assert int(str(response.headers["content-length"])) > 20_000_000
    return connection, response


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(image(2, BIG))


def _shorten(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(5000)


def _rename_over(path: Path) -> None:
    aside = path.parent.parent / "aside"
    aside.write_bytes(image(2, BIG))
    aside.replace(path)


CHANGES: dict[str, Callable[[Path], None]] = {
    "overwritten": _overwrite,
    "shortened": _shorten,
    "renamed-over": _rename_over,
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("what", ["cutout", "id-alone", "file"])
def test_a_file_that_changes_under_an_answer(fragile: Fragile, what: str, change: str) -> None:
    """All of the old version, or a connection that breaks: never a mixture that looks whole."""
    path = fragile.data / "big.fits"
    fragile.write("big.fits", image(1, BIG))
    target = {
        "cutout": f"soda/sync?ID={did('big.fits')}&CIRCLE={EVERYWHERE}".replace(" ", "+"),
        "id-alone": f"soda/sync?ID={did('big.fits')}",
        "file": "files/data/big.fits",
    }[what]
    connection, response = _begin(fragile, target)
    try:
        start = response.read(100_000)
        CHANGES[change](path)
        try:
            body = start + response.read()
        except (HTTPException, ConnectionError):
            body = None
        if body is not None:
            (hdu,) = fits.HDUList.fromstring(body)
            assert hdu.data.min() == hdu.data.max() == 1.0
    finally:
        connection.close()
    fragile.write("big.fits", image(4, BIG))
    (hdu,) = fits.HDUList.fromstring(fragile.cut("big.fits").content)
    assert set(hdu.data.flat) == {4.0}


# ------------------------------------------------------------------ clients that go away


def _open_files(server: Served) -> int:
    """Sockets and files, but not the catalog's: as many connections as were needed are kept."""
    count = 0
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            count += "catalog.sqlite" not in str(link.readlink())
    return count


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc: only Linux has it")
def test_clients_that_go_away_in_the_middle(fragile: Fragile) -> None:
    """By closing or by resetting: nothing is left open, and others are served meanwhile."""
    fragile.write("big.fits", image(1, BIG))
    assert fragile.cut("big.fits").status_code == 200
    before = _open_files(fragile.server)
    targets = [
        f"soda/sync?ID={did('big.fits')}&CIRCLE={EVERYWHERE}".replace(" ", "+"),
        "files/data/big.fits",
    ]

    def leave(number: int) -> None:
        connection, response = _begin(fragile, targets[number % 2])
        assert response.read(1000)
        if number % 3:  # reset instead of an orderly end
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        response.close()
        connection.close()

    with ThreadPoolExecutor(12) as pool:
        leaving = [pool.submit(leave, number) for number in range(36)]
        for _ in range(10):
            assert fragile.cut("sound.fits").status_code == 200
        for one in leaving:
            one.result(30)
    end = time.monotonic() + 20
    while _open_files(fragile.server) > before + 2:
        assert time.monotonic() < end, "files or sockets stay open"
        time.sleep(0.05)


def test_clients_that_ask_and_do_not_wait(fragile: Fragile) -> None:
    """Half a request, a whole one without reading, several at once on one connection."""
    for request in (
        b"GET /soda/sync?ID=x HTTP/1.1\r\nHost: x\r\n",
        b"POST /soda/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nID=x",
        b"GET /sia/query HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
        b"",
    ):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", fragile.wire.port)) as connection:
                connection.sendall(request)


def test_requests_in_one_packet(fragile: Fragile) -> None:
    """Pipelined requests are answered one after the other."""
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", fragile.wire.port), timeout=20) as connection:
        connection.sendall(
            request * 5 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 6
    assert received.count(b"\r\n\r\nok\n") == 6


# ------------------------------------------------------------------ bodies


@pytest.mark.parametrize("framing", ["length", "chunked", "expect"])
@pytest.mark.parametrize("path", ["soda/sync", "sia/query", "datalink/links"])
def test_a_body_of_100_megabytes(wire: Wire, path: str, framing: str) -> None:
    """413 in the protocol's form, long before it has been read."""
    total, piece = 100_000_000, b"x" * 65_536
    head = [f"POST /{path} HTTP/1.1", "Host: x",
            "Content-Type: application/x-www-form-urlencoded"]  # fmt: skip
    head += ["Transfer-Encoding: chunked"] if framing == "chunked" else [f"Content-Length: {total}"]
    head += ["Expect: 100-continue"] * (framing == "expect")
    with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        sent = 0
        if framing != "expect":
            connection.setblocking(False)
            while sent < total:
                body = b"%x\r\n%s\r\n" % (len(piece), piece) if framing == "chunked" else piece
                try:
                    if connection.recv(1, socket.MSG_PEEK):
                        break
                except BlockingIOError:
                    pass
                connection.settimeout(20)
                with contextlib.suppress(ConnectionError):
                    connection.sendall(body)
                connection.setblocking(False)
                sent += len(piece)
            connection.settimeout(20)
        # The limit, and what the kernel takes in advance.
        assert sent < min(total, 2_000_000 + most_on_its_way())
        answer = wire.answer(connection, method="POST")
    assert answer.status == 413
    _assert_form(answer, path)


def _assert_form(answer: Answer, path: str) -> None:
    """It is an error as that protocol writes it."""
    if path == "soda/sync":
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.body.startswith(b"UsageError: ")
    else:
        assert answer.headers["content-type"] == "application/x-votable+xml"
        assert_valid_votable(answer.body)
        assert status_of(answer.body)[1].startswith("UsageFault: ")


CIRCLED = {"ID": "ivo://demo.invalid/visits?2024110900036-94", "CIRCLE": "53.124 -27.74 0.003"}
BOUNDARY = "a-boundary-of-some-length"


def _parts(end: str) -> bytes:
    """CIRCLED as multipart/form-data, with what follows the last delimiter's name."""
    parts = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in CIRCLED.items()
    )
    return ("".join(parts) + f"--{BOUNDARY}{end}").encode()


def test_a_multipart_body_that_breaks_off(wire: Wire) -> None:
    """Wherever it was cut: without its last part the answer would be another one."""
    whole = _parts("--\r\n")
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    for path in (SYNC, "sia/query", "datalink/links"):
        for missing in (*range(3, 61), 100, len(whole) - 1):
            answer = wire.post_body(path, whole[:-missing], kind)
            assert answer.status_code == 400, missing
            label = "UsageError" if path == SYNC else "UsageFault"
            assert f"{label}: the multipart body " in answer.text
            if missing < 29:  # nothing but the last delimiter is missing
                assert "breaks off" in answer.text


@pytest.mark.parametrize(
    "end", ["--\r\n", "--\r", "--", "--  \r\n", "--\r\n\r\nepilogue", "--\r\n--other\r\n\r\nx"]
)
def test_what_may_follow_a_multipart_body(wire: Wire, end: str) -> None:
    """Nothing, a line break, or anything (RFC 2046 §5.1.1: the epilogue is ignored)."""
    answer = wire.post_body(SYNC, _parts(end), f"multipart/form-data; boundary={BOUNDARY}")
    assert answer.status_code == 200
    assert answer.content == wire.get(SYNC, None, **CIRCLED).content


def test_a_content_type_of_many_parameters(wire: Wire) -> None:
    """Each of them takes time; the boundary has 70 characters at most (RFC 2046 §5.1.1)."""
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    assert wire.post_body(SYNC, _parts("--\r\n"), f"{kind}; a=b").status_code == 200
    answer = wire.post_body(SYNC, _parts("--\r\n"), kind + "; a=b" * 10_000)
    assert answer.status_code == 400
    assert "Content-Type has at most" in answer.text


def test_a_body_of_nearly_the_limit(wire: Wire) -> None:
    """A megabyte of parameters is read, and refused where it is nonsense."""
    visit = "ivo://demo.invalid/visits?2024110900036-94"
    answer = wire.post(SYNC, ID=visit, CIRCLE="53.124 -27.74 0.003", NOTE="x" * 1_000_000)
    assert answer.status_code == 200
    answer = wire.post(SYNC, ID="x" * 1_000_000)
    assert answer.status_code == 404
    assert len(answer.content) < 2000
    for path in (SYNC, "sia/query", "datalink/links"):
        answer = wire.post_body(path, b"a=1&" * 200_000, "application/x-www-form-urlencoded")
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "length", ["-1", "x", "1e3", "99999999999999999999999", "0x10", "1, 2", "+5"]
)
@pytest.mark.parametrize("path", ["soda/sync", "sia/query", "datalink/links"])
def test_lengths_that_are_none(wire: Wire, path: str, length: str) -> None:
    """400 in the form of the protocol; `support.wire` looks at id and origins."""
    request = (
        f"POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\nID=x"
    ).encode()
    answer = wire.raw(request, method="POST")
    assert answer.status == 400
    _assert_form(answer, path)


# ------------------------------------------------------------------ identifiers

IDENTIFIERS = [
    "../../etc/passwd", "..\\..\\etc\\passwd", "/etc/passwd", "file:///etc/passwd",
    "ivo://demo.invalid/visits?../../../../etc/passwd", "ivo://demo.invalid/../visits?x",
    "ivo://demo.invalid/visits?/etc/passwd", "ivo://demo.invalid/visits?visit_2024110900036_r.fits",
    "ivo://demo.invalid/radio?./cuttlefish_hi.fits", "ivo://demo.invalid/radio/?cuttlefish_hi.fits",
    "ivo://other.invalid/radio?cuttlefish_hi.fits", "ivo://demo.invalid/radio?cuttlefish_hi.fits\x00",
    "\x00", "\x00../../etc/passwd", "ivo://demo.invalid/radio?cuttlefish_hi.fit\u017f", "é" * 300,
    "\ud7ff\ufffe\U0010ffff", "x" * 60_000, "' OR '1'='1", "%", "_", "*", "$(id)", "`id`", "|id",
    "<script>alert(1)</script>", "{0}", "%s%s%n", "\r\nSet-Cookie: a=b", "ivo://", "ivo:", "?", "#",
    "data:text/plain,x", "gopher://127.0.0.1:1/", "//127.0.0.1/x", "\u202e", "None", "null", "0",
]  # fmt: skip


@pytest.mark.parametrize("name", IDENTIFIERS, ids=lambda name: ascii(name[:40]))
def test_identifiers_that_look_like_something_else(wire: Wire, name: str) -> None:
    """No dataset: 404 for a cutout, a row for links, no row for a search; nothing is opened."""
    for asked in ({}, {"CIRCLE": "53.124 -27.74 0.003"}, {"CUTOUTDETAIL": "Image"}):
        answer = wire.post(SYNC, ID=name, **asked)
        assert answer.status_code == 404, answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith("UsageError: ")
        assert "set-cookie" not in answer.headers
        assert b"root:" not in answer.content
        assert len(answer.content) < 2000
    rows = rows_of(wire.post("datalink/links", ID=name).content)
    assert [row["error_message"][:15] for row in rows] == ["NotFoundFault: "]
    assert rows_of(wire.post("sia/query", ID=name).content) == []


def test_an_identifier_is_never_fetched(wire: Wire) -> None:
    """A URL as an identifier reaches nobody, whatever its scheme."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        for scheme in ("http", "https", "ftp", "s3", "ivo"):
            name = f"{scheme}://127.0.0.1:{port}/x.fits"
            assert wire.get(SYNC, ID=name, CIRCLE="1 2 3").status_code == 404
            assert wire.get("datalink/links", ID=name).status_code == 200
            assert wire.target(f"/files/{name}").status == 404
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_identifiers_that_are_not_text(wire: Wire) -> None:
    """Bytes that are not UTF-8 are refused."""
    for path, form in ((SYNC, b"UsageError: "), ("sia/query", b"UsageFault: "),
                       ("datalink/links", b"UsageFault: ")):  # fmt: skip
        for value in (b"%ff", b"%c0%af", b"%ed%a0%80", b"\xff"):
            answer = wire.post_body(path, b"ID=" + value, "application/x-www-form-urlencoded")
            assert answer.status_code == 400
            assert form in answer.content


# ------------------------------------------------------------------ HTTP that is none

POST = b"POST /soda/sync HTTP/1.1\r\nHost: x\r\n"
GARBAGE = [
    b"\x00" * 1000, b"\xff" * 5000, b"\r\n" * 100 + b"\r\n", b"GET\r\n\r\n", b"GET /\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"get / http/1.1\r\nhost: x\r\n\r\n", b"GET /health HTTP/1.1\r\nHost x\r\n\r\n",
    b"GET /health HTTP/1.1\r\n: x\r\n\r\n", b"GET /health HTTP/1.1\r\nA\x00B: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"NONSENSE /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /health\x00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nx\r\n0\r\n\r\n",
    POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /files/x",
    POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nID=xy",
]  # fmt: skip


def _status_of(wire: Wire, request: bytes) -> int | None:
    """The status of what comes back, None where the connection is closed without an answer.

    The client ends its half: what it began and did not end, it never will.
    """
    with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        try:
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        except ConnectionError:
            return None
    assert str(wire.folder).encode() not in received
    assert b"Traceback" not in received
    if not received:
        return None
    assert received.startswith(b"HTTP/1.1 ")
    head = received.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nx-request-id: " in head
    assert b"\r\naccess-control-allow-origin: *" in head
    assert b"Invalid HTTP request" not in received
    return int(received[9:12])


@pytest.mark.parametrize("request_bytes", GARBAGE, ids=lambda text: ascii(text[:30]))
def test_garbage_instead_of_http(wire: Wire, request_bytes: bytes) -> None:
    """An answer that is no server error, or a closed connection."""
    status = _status_of(wire, request_bytes)
    assert status is None or status < 500


def test_strange_methods_and_headers(wire: Wire) -> None:
    """405, and headers that do not matter."""
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
        for path in ("/soda/sync", "/sia/query", "/datalink/links", "/files/x", "/"):
            assert wire.target(path, method=method).status == 405
    for headers in (
        {"Cookie": "x=" + "y" * 5000},
        {"Accept": "nonsense/*;q=x"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"If-None-Match": '"' * 5000},
        {"If-Modified-Since": "Thu, 99 Jan 99999 00:00:00 GMT"},
        {"Range": "bytes=0-" + "9" * 5000},
        {"Origin": "null"},
        {"Forwarded": "for=127.0.0.1;host=evil.example"},
        {f"X-{number}": "x" for number in range(50)},
    ):
        answer = wire.get(SYNC, headers, ID="ivo://demo.invalid/radio?cuttlefish_hi.fits")
        assert answer.status_code == 200


def test_hosts_that_are_none(wire: Wire) -> None:
    """What is no host name does not get into a document; nor what an unknown proxy says."""
    for host in (
        '"><script>',
        "some host",
        "evil.example/path",
        "x" * 400,
        "a\\b",
        "%00",
        "user@host",
    ):
        for path in ("/capabilities", "/datalink/links", "/sia/query?MAXREC=0", "/"):
            answer = wire.raw(
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            )
            assert answer.status in {200, 400}
            assert host.encode() not in answer.body
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher",
                 "X-Forwarded-Prefix": "/evil"}  # fmt: skip
    for path in ("capabilities", "datalink/links", "sia/query?MAXREC=0", ""):
        assert "evil" not in wire.get(path, forwarded).text


# ------------------------------------------------------------------ floods


def test_parameters_without_end(wire: Wire) -> None:
    """Too many, in the query string or the body: refused at once."""
    for path in (SYNC, "sia/query", "datalink/links"):
        assert wire.target(f"/{path}?" + "a&" * 20_000).status in {200, 400}
        many = b"&".join(b"POS=CIRCLE+1+2+3&%d=1" % number for number in range(20_000))
        answer = wire.post_body(path, many, "application/x-www-form-urlencoded")
        assert answer.status_code == 400
    shapes = [f"CIRCLE {lon} 0 0.001" for lon in range(0, 360, 2)]
    assert wire.post("sia/query", POS=shapes, BAND=[f"{n}e-9" for n in range(1, 3000)]).is_success
    names = [f"ivo://demo.invalid/x?{number}" for number in range(5000)]
    assert rows_of(wire.post("sia/query", ID=names).content) == []


HEADS = {
    "line": (b"GET /", b"x" * 65_536),
    "header": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: ", b"x" * 65_536),
    "headers": (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"Name: value\r\n" * 5000),
    "chunk": (b"POST /soda/sync HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x" * 65_536),
    "trailers": (b"POST /soda/sync HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
                 b"Name: value\r\n" * 5000),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_without_end(wire: Wire, kind: str) -> None:
    """Cut off after some megabytes: else one connection could fill the memory."""
    start, more = HEADS[kind]
    sent, most = 0, 6_000_000 + most_on_its_way()
    with socket.create_connection(("127.0.0.1", wire.port), timeout=60) as connection:
        connection.sendall(start)
        with contextlib.suppress(ConnectionError):
            while sent < 2 * most:
                connection.sendall(more)
                sent += len(more)
    assert sent < most


def test_many_clients_at_once_each_get_their_own(wire: Wire) -> None:
    """Cutouts, searches and errors side by side; no answer is another's."""
    visit = "ivo://demo.invalid/visits?2024110900036-94"
    radii = [0.001 + 0.0005 * number for number in range(6)]
    wanted = {
        radius: wire.get(SYNC, ID=visit, CIRCLE=f"53.124 -27.74 {radius}").content
        for radius in radii
    }

    def ask(number: int) -> None:
        radius = radii[number % len(radii)]
        mark = f"client-{number}"
        with httpx2.Client(timeout=60, trust_env=False) as client:
            for path, asked, status in (
                (SYNC, {"ID": visit, "CIRCLE": f"53.124 -27.74 {radius}"}, 200),
                (SYNC, {"ID": mark}, 404),
                ("sia/query", {"TARGET": mark}, 200),
                ("datalink/links", {"ID": mark}, 200),
            ):
                answer = client.get(wire.url(path, **asked), headers={"X-Request-ID": mark})
                assert answer.status_code == status
                assert answer.headers["x-request-id"] == mark
                assert answer.content == wanted[radius] if path == SYNC and status == 200 else True
                assert (status == 200 and path == SYNC) or mark in answer.text

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(ask, number) for number in range(48)]:
            done.result(60)
