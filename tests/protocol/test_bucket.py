"""An archive in a bucket from end to end: a real S3 server, ingest, the service, a client.

What is counted are requests and bytes, at the store.
"""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from support.bucket import KEYS, make_bucket
from support.images import FAMILIES
from support.s3server import s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from support.bucket import Bucket
    from support.s3server import AskedOfS3, S3Server
    from support.service import LiveService

    Pixels = NDArray[Any]

SIDE = 1500
CIRCLE = "150.0 2.0 0.01"
"""201 pixels across in the middle of an image of `_header`."""


def _header() -> fits.Header:
    header = fits.Header()
    header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0, CRPIX1=SIDE / 2,
        CRPIX2=SIDE / 2, CDELT1=-1e-4, CDELT2=1e-4,
    )  # fmt: skip
    return header


def _pixels(seed: int, dtype: str = "f4") -> Pixels:
    made: Pixels = np.random.default_rng(seed).normal(0, 900, (SIDE, SIDE)).astype(dtype)
    return made


def _file(*hdus: Any) -> bytes:
    written = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(written)
    return written.getvalue()


def _plain(seed: int = 1) -> bytes:
    return _file(fits.PrimaryHDU(_pixels(seed), _header()))


def _mef() -> bytes:
    planes = [fits.ImageHDU(_pixels(at), _header(), name=f"P{at}") for at in (2, 3, 4)]
    return _file(fits.PrimaryHDU(), *planes)


def _tiled(tile: tuple[int, int]) -> bytes:
    pixels = _pixels(5, "i2")
    image = fits.CompImageHDU(pixels, _header(), compression_type="RICE_1", tile_shape=tile)
    return _file(fits.PrimaryHDU(), image)


def _zipped() -> bytes:
    return gzip.compress(_file(fits.PrimaryHDU(_pixels(6, "i2"), _header())), 1, mtime=0)


FILES = {
    "plain.fits": _plain,
    "nights/2026-11-21/mef.fits": _mef,
    "tiles.fits": lambda: _tiled((100, 100)),
    "rows.fits.fz": lambda: _tiled((1, SIDE)),
    "zipped.fits.gz": _zipped,
}


@pytest.fixture(name="s3", scope="module")
def _s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True, scope="module")
def _keys() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in KEYS.values():
            patch.setenv(variable, "reader")
        yield


@pytest.fixture(name="contents", scope="module")
def _contents() -> dict[str, bytes]:
    return {name: make() for name, make in FILES.items()}


@pytest.fixture(name="archive", scope="module")
def _archive(
    s3: S3Server, contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Bucket:
    """The `FILES`, ingested."""
    bucket = make_bucket(s3, "archive", tmp_path_factory.mktemp("archive"))
    for name, content in contents.items():
        bucket.put(name, content)
    report = bucket.ingest(workers=2)
    assert (report.added, report.failed) == (len(FILES), [])
    return bucket


@pytest.fixture(name="live")
def _live(archive: Bucket) -> Iterator[LiveService]:
    """A service that has read nothing yet."""
    with archive.served() as live:
        yield live


def _kinds(asked: list[AskedOfS3]) -> list[str]:
    return [one.kind for one in asked]


def _images(content: bytes) -> list[Pixels]:
    with fits.open(io.BytesIO(content)) as hdus:
        return [np.array(hdu.data) for hdu in hdus if hdu.data is not None]


def _middle(pixels: Pixels, side: int = 201) -> Pixels:
    """What `CIRCLE` gives."""
    first = SIDE // 2 - 1 - side // 2
    part: Pixels = pixels[first : first + side, first : first + side]
    return part


def _status(live: LiveService, bucket: Bucket) -> int:
    """Of a cutout of `a.fits`."""
    return live.get("/soda/sync", ID=bucket.did("a.fits"), CIRCLE=CIRCLE).status_code


class TestIngest:
    """A list, and headers."""

    def test_only_headers_are_read(
        self, s3: S3Server, tmp_path: Path, contents: dict[str, bytes]
    ) -> None:
        bucket = make_bucket(s3, "headers", tmp_path)
        for number in range(3):
            for name in ("plain.fits", "tiles.fits", "nights/2026-11-21/mef.fits"):
                bucket.put(f"{number}/{name}", contents[name])
        bucket.put("readme.txt", b"not an image")
        bucket.put(".hidden/plain.fits", contents["plain.fits"])
        bucket.asked()
        report = bucket.ingest(workers=2)
        assert (report.added, report.failed) == (9, [])
        asked = bucket.asked()
        assert _kinds(asked).count("LIST") == 1
        # A request for each HDU with pixels, and one that asks what the URL is.
        assert _kinds(asked).count("GET") == 3 * (1 + 1 + 3)
        assert _kinds(asked).count("HEAD") == 1
        stored = 3 * sum(len(contents[name]) for name in list(FILES)[:3])
        assert sum(one.size for one in asked) < 0.02 * stored
        assert {one.user for one in asked} == {"reader"}

    def test_of_a_compressed_file_as_much_as_holds_the_headers(
        self, s3: S3Server, tmp_path: Path, contents: dict[str, bytes]
    ) -> None:
        bucket = make_bucket(s3, "zipped", tmp_path)
        bucket.put("a.fits.gz", contents["zipped.fits.gz"])
        # Two streams in one file: what the end says of the size is true of the second alone.
        whole = gzip.decompress(contents["zipped.fits.gz"])
        half = len(whole) // 2
        two = gzip.compress(whole[:half], 1) + gzip.compress(whole[half:], 1)
        bucket.put("two.fits.gz", two)
        bucket.asked()
        report = bucket.ingest()
        assert (report.added, report.failed) == (2, [])
        sizes = {"a": 0, "two": 0}
        for one in bucket.asked():
            if one.kind == "GET":
                sizes["two" if "two" in one.path else "a"] += one.size
        assert sizes["a"] < 0.05 * len(contents["zipped.fits.gz"])
        assert sizes["two"] > len(two)

    def test_a_second_one_reads_nothing(self, archive: Bucket) -> None:
        archive.asked()
        report = archive.ingest()
        assert (report.unchanged, report.added, report.changed) == (len(FILES), 0, 0)
        assert sorted(_kinds(archive.asked())) == ["HEAD", "LIST"]

    def test_what_changed_and_what_vanished(
        self, s3: S3Server, tmp_path: Path, contents: dict[str, bytes]
    ) -> None:
        bucket = make_bucket(s3, "changing", tmp_path)
        for name in ("same.fits", "other.fits", "gone.fits"):
            bucket.put(name, contents["plain.fits"])
        assert bucket.ingest().added == 3
        bucket.put("other.fits", contents["nights/2026-11-21/mef.fits"])
        bucket.store.delete("sky/gone.fits")
        bucket.put("new.fits", FAMILIES["tan"]())
        report = bucket.ingest()
        assert (report.added, report.changed, report.unchanged, report.removed) == (1, 1, 1, 1)
        # One object by its name, and one that is no more.
        bucket.put("new.fits", FAMILIES["mef"]())
        bucket.store.delete("sky/other.fits")
        report = bucket.ingest(f"{bucket.url}/new.fits", f"{bucket.url}/other.fits")
        assert (report.changed, report.removed, report.failed) == (1, 1, [])

    def test_an_emptied_root_keeps_its_datasets(
        self, s3: S3Server, tmp_path: Path, contents: dict[str, bytes]
    ) -> None:
        """As one whose disk is not mounted does."""
        bucket = make_bucket(s3, "emptied", tmp_path)
        bucket.put("a.fits", contents["plain.fits"])
        bucket.ingest()
        bucket.store.delete("sky/a.fits")
        report = bucket.ingest()
        assert report.removed == 0
        assert "no file is found any more" in report.failed[0][1]
        assert bucket.ingest(allow_empty=True).removed == 1

    def test_an_object_that_moved_keeps_its_identifier(self, s3: S3Server, tmp_path: Path) -> None:
        """Where headers give it; a copy is refused."""
        bucket = make_bucket(s3, "moving", tmp_path)
        sky = bucket.collections.collections["sky"].model_copy(update={"publisher_did": "{OBJECT}"})
        bucket.collections = bucket.collections.model_copy(update={"collections": {"sky": sky}})
        header = _header()
        header["OBJECT"] = "M31"
        content = _file(fits.PrimaryHDU(_pixels(7)[:50, :50], header))
        bucket.put("old/m31.fits", content)
        bucket.ingest()
        bucket.put("new/m31.fits", content)
        report = bucket.ingest()
        assert (report.unchanged, report.added, report.moved) == (1, 0, 0)
        assert "is already that of" in report.failed[0][1]
        bucket.store.delete("sky/old/m31.fits")
        report = bucket.ingest()
        assert (report.moved, report.removed, report.failed) == (1, 0, [])
        with bucket.served() as live:
            assert live.get("/files/sky/M31").content == content


class TestCutting:
    """The right pixels by few requests."""

    def test_a_plain_image_is_one_request(self, archive: Bucket, live: LiveService) -> None:
        answer = live.get("/soda/sync", ID=archive.did("plain.fits"), CIRCLE=CIRCLE)
        assert answer.status_code == 200
        (cut,) = _images(answer.content)
        np.testing.assert_array_equal(cut, _middle(_pixels(1)))
        (one,) = archive.asked()
        assert (one.kind, one.status) == ("GET", 206)
        assert one.if_match
        assert one.size == (200 * SIDE + 201) * 4
        # And none for what is in memory.
        again = live.get("/soda/sync", ID=archive.did("plain.fits"), CIRCLE=CIRCLE)
        assert again.content == answer.content
        assert not archive.asked()

    def test_a_wide_box_is_little_more_than_its_pixels(
        self, archive: Bucket, live: LiveService
    ) -> None:
        """At least 83 % of the image's width: decision 12 has both bars for these."""
        answer = live.get("/soda/sync", ID=archive.did("plain.fits"), PIXELS="[51:1450,101:900]")
        (cut,) = _images(answer.content)
        np.testing.assert_array_equal(cut, _pixels(1)[100:900, 50:1450])
        asked = archive.asked()
        assert _kinds(asked) == ["GET"]
        assert sum(one.size for one in asked) <= 1.2 * cut.nbytes

    def test_a_large_box_is_asked_for_in_parallel_pieces(
        self, archive: Bucket, live: LiveService
    ) -> None:
        answer = live.get("/soda/sync", ID=archive.did("plain.fits"), PIXELS="[*,*]")
        (cut,) = _images(answer.content)
        np.testing.assert_array_equal(cut, _pixels(1))
        asked = archive.asked()
        assert set(_kinds(asked)) == {"GET"}
        assert len(asked) <= 2
        assert sum(one.size for one in asked) == cut.nbytes

    def test_each_plane_of_a_file_is_one_request(self, archive: Bucket, live: LiveService) -> None:
        name = "nights/2026-11-21/mef.fits"
        answer = live.get("/soda/sync", ID=archive.did(name), CIRCLE=CIRCLE)
        for number, cut in enumerate(_images(answer.content), 2):
            np.testing.assert_array_equal(cut, _middle(_pixels(number)))
        assert _kinds(archive.asked()) == ["GET"] * 3

    @pytest.mark.parametrize(("name", "most"), [("tiles.fits", 6), ("rows.fits.fz", 2)])
    def test_only_the_tiles_that_are_touched(
        self, archive: Bucket, live: LiveService, name: str, most: int
    ) -> None:
        """One request for the rows of the table, one for each run of tiles."""
        answer = live.get("/soda/sync", ID=archive.did(name), CIRCLE=CIRCLE)
        (cut,) = _images(answer.content)
        np.testing.assert_array_equal(cut, _middle(_pixels(5, "i2")))
        asked = archive.asked()
        assert set(_kinds(asked)) == {"GET"}
        assert len(asked) <= most
        with fits.open(io.BytesIO(FILES[name]()), disable_image_compression=True) as hdus:
            table = hdus[1]
            lengths = np.array([len(cell) for cell in table.data.field("COMPRESSED_DATA")])
            if name == "tiles.fits":
                wanted = lengths.reshape(15, 15)[6:9, 6:9].sum()
            else:
                wanted = lengths[649:850].sum()
            rows = table.header["NAXIS1"] * table.header["NAXIS2"]
        assert sum(one.size for one in asked) <= 1.2 * wanted + rows
        live.get("/soda/sync", ID=archive.did(name), CIRCLE=CIRCLE)
        assert not archive.asked()

    def test_a_compressed_file_is_downloaded_once(
        self, archive: Bucket, contents: dict[str, bytes]
    ) -> None:
        """For all processes, and for those that come later."""
        for requests in (True, False):
            with archive.served() as live:
                for _ in range(3):
                    answer = live.get("/soda/sync", ID=archive.did("zipped.fits.gz"), CIRCLE=CIRCLE)
                    (cut,) = _images(answer.content)
                    np.testing.assert_array_equal(cut, _middle(_pixels(6, "i2")))
                asked = archive.asked()
            if requests:
                assert set(_kinds(asked)) == {"GET"}
                assert sum(one.size for one in asked) == len(contents["zipped.fits.gz"])
            else:
                # The copy is there; whether it is still that of the object is asked once.
                assert _kinds(asked) == ["HEAD"]

    @pytest.mark.parametrize("packing", ["gz", "fz"])
    def test_answers_that_are_compressed(
        self, archive: Bucket, live: LiveService, packing: str
    ) -> None:
        answer = live.get(
            "/soda/sync", ID=archive.did("tiles.fits"), PIXELS="[601:900,601:900]",
            COMPRESS=packing,
        )  # fmt: skip
        assert answer.status_code == 200
        content = gzip.decompress(answer.content) if packing == "gz" else answer.content
        (cut,) = _images(content)
        np.testing.assert_array_equal(cut, _pixels(5, "i2")[600:900, 600:900])
        asked = archive.asked()
        assert set(_kinds(asked)) == {"GET"}
        assert len(asked) <= 6

    def test_headers_alone_and_misses_ask_for_nothing(
        self, archive: Bucket, live: LiveService
    ) -> None:
        did = archive.did("plain.fits")
        assert live.get("/soda/sync", ID=did, CIRCLE=CIRCLE, HEADERONLY=1).status_code == 200
        assert live.get("/soda/sync", ID=did, CIRCLE="10 10 0.01").status_code == 204
        assert live.get("/sia/query", POS="CIRCLE 150 2 0.1").status_code == 200
        links = live.get("/datalink/links", ID=did).text
        assert f"{live.base}/files/sky/plain.fits" in links
        assert "s3://" not in links
        assert live.get("/health").status_code == 200
        assert not archive.asked()

    def test_a_head_or_304_asks_whether_the_object_is_still_there(
        self, archive: Bucket, live: LiveService
    ) -> None:
        """Once, as nothing is read for them."""
        did = archive.did("plain.fits")
        head = live.head("/soda/sync", ID=did, CIRCLE=CIRCLE)
        assert head.status_code == 200
        assert _kinds(archive.asked()) == ["HEAD"]
        known = {"If-None-Match": head.headers["etag"]}
        assert live.get("/soda/sync", headers=known, ID=did, CIRCLE=CIRCLE).status_code == 304
        assert not archive.asked()


class TestWholeFiles:
    """`/files/`."""

    def test_ranges_tags_and_lengths(
        self, archive: Bucket, live: LiveService, contents: dict[str, bytes]
    ) -> None:
        content = contents["plain.fits"]
        path = "/files/sky/plain.fits"
        whole = live.get(path)
        assert whole.content == content
        assert whole.headers["content-length"] == str(len(content))
        etag = whole.headers["etag"]
        asked = archive.asked()
        assert set(_kinds(asked)) == {"GET"}
        assert sum(one.size for one in asked) == len(content)
        assert len(asked) <= 8
        part = live.get(path, headers={"Range": "bytes=1000-2999", "If-Range": etag})
        assert (part.status_code, part.content) == (206, content[1000:3000])
        tail = live.get(path, headers={"Range": "bytes=-100"})
        assert (tail.status_code, tail.content) == (206, content[-100:])
        assert live.get(path, headers={"Range": f"bytes={len(content)}-"}).status_code == 416
        assert sum(one.size for one in archive.asked()) <= 2100
        head = live.head(path)
        assert head.headers["content-length"] == str(len(content))
        assert head.headers["etag"] == etag
        assert live.get(path, headers={"If-None-Match": etag}).status_code == 304

    def test_a_compressed_file_goes_out_as_it_is(
        self, archive: Bucket, live: LiveService, contents: dict[str, bytes]
    ) -> None:
        answer = live.raw("GET", "/files/sky/zipped.fits.gz")
        assert answer[2] == contents["zipped.fits.gz"]
        by_id = live.get("/soda/sync", ID=archive.did("zipped.fits.gz"))
        assert by_id.content == contents["zipped.fits.gz"]
        assert by_id.headers["content-type"] == "application/gzip"


class TestObjectsThatChange:
    """Never a mixture; answered again soon, and by what is there now."""

    @pytest.fixture(name="bucket")
    def _bucket(self, s3: S3Server, tmp_path: Path, request: pytest.FixtureRequest) -> Bucket:
        name = "c" + str(abs(hash(request.node.name)))[:12]
        bucket = make_bucket(s3, name, tmp_path, remote_fresh_seconds=0.0)
        bucket.put("a.fits", _plain())
        bucket.put("z.fits.gz", _zipped())
        bucket.ingest()
        return bucket

    @pytest.mark.parametrize("name", ["a.fits", "z.fits.gz"])
    def test_a_replaced_object_is_indexed_anew(self, bucket: Bucket, name: str) -> None:
        replaced = _plain(8) if name == "a.fits" else gzip.compress(_plain(8), 1)
        with bucket.served() as live:
            before = live.get("/soda/sync", ID=bucket.did(name), CIRCLE=CIRCLE)
            assert before.status_code == 200
            bucket.put(name, replaced)
            told = live.get("/soda/sync", ID=bucket.did(name), CIRCLE=CIRCLE)
            assert told.status_code == 503
            assert "has changed" in told.text
            assert "retry-after" in told.headers
            after = live.get("/soda/sync", ID=bucket.did(name), CIRCLE=CIRCLE)
            assert after.status_code == 200
            np.testing.assert_array_equal(_images(after.content)[0], _middle(_pixels(8)))
            assert after.headers["etag"] != before.headers["etag"]
            # Once for all.
            bucket.asked()
            live.get("/soda/sync", ID=bucket.did(name), CIRCLE=CIRCLE)
            assert len(bucket.asked()) <= 1
        assert bucket.ingest().unchanged == 2

    def test_whole_files_too(self, bucket: Bucket) -> None:
        with bucket.served() as live:
            before = live.get("/files/sky/a.fits")
            bucket.put("a.fits", _plain(8))
            etag = {"If-None-Match": before.headers["etag"]}
            assert live.get("/files/sky/a.fits", headers=etag).status_code == 503
            after = live.get("/files/sky/a.fits", headers=etag)
            assert after.status_code == 200
            assert after.content == _plain(8)

    def test_a_vanished_object_is_unknown_and_may_come_back(self, bucket: Bucket) -> None:
        with bucket.served() as live:
            assert live.get("/soda/sync", ID=bucket.did("a.fits"), CIRCLE=CIRCLE).is_success
            bucket.store.delete("sky/a.fits")
            assert _status(live, bucket) == 503
            gone = live.get("/soda/sync", ID=bucket.did("a.fits"), CIRCLE=CIRCLE)
            assert gone.status_code == 404
            assert "its file is gone" in gone.text
            assert live.get("/files/sky/a.fits").status_code == 404
            bucket.put("a.fits", _plain())
            assert _status(live, bucket) == 200

    def test_what_is_no_image_any_more(self, bucket: Bucket) -> None:
        with bucket.served() as live:
            bucket.put("a.fits", b"no image at all")
            assert _status(live, bucket) == 503
            for _ in range(2):
                assert _status(live, bucket) == 500
            bucket.put("a.fits", _plain())
            assert _status(live, bucket) == 200
