"""A bucket, read through a real S3 server: versions, lists, credentials, names, requests."""

from __future__ import annotations

import io
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from support.s3server import S3Server, put, s3_server

from soda_service.errors import ConfigurationError, SourceUnavailableError
from soda_service.fits.layout import scan_hdus
from soda_service.storage.blockcache import BlockCache
from soda_service.storage.headerwindow import HeaderWindow
from soda_service.storage.objectstore import ObjectChangedError
from soda_service.storage.remoteplace import RemoteLimits, RemoteRoot
from soda_service.storage.runs import RunGrid
from soda_service.storage.stores import RemoteStores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import S3Store

CONTENT = np.random.default_rng(5).bytes(5_000_000)


@pytest.fixture(name="s3", scope="module")
def _s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(name="bucket", scope="module")
def _bucket(s3: S3Server) -> S3Store:
    bucket = s3.make_bucket("archive")
    put(bucket, "survey/image.fits", CONTENT)
    return bucket


def root_at(s3: S3Server, url: str = "s3://archive/survey") -> RemoteRoot:
    """A root with credentials; the server takes any."""
    keys = {"access_key_id": "reader", "secret_access_key": "secret"}
    return RemoteRoot(url=url, endpoint=s3.endpoint, region="us-east-1", options=keys)


def test_a_box_is_one_request_for_its_version(s3: S3Server, bucket: S3Store) -> None:
    """No HEAD, no LIST, where the catalog knows the version; none at all the second time."""
    url = "s3://archive/survey/image.fits"
    grid = RunGrid(2880, 800, (200,), (16_384,), 4)
    expected = b"".join(CONTENT[at : at + 800] for at in grid.starts().tolist())
    with RemoteStores([root_at(s3)], cache=BlockCache(10**8)) as stores:
        version = stores.version_of(url)
        assert version is not None
        assert version.size == len(CONTENT)
        s3.asked()
        source = stores.open(url, version)
        assert source.read_runs(grid) == expected
        (one,) = s3.asked()
        assert (one.kind, one.status, one.if_match) == ("GET", 206, version.tag)
        assert one.size <= grid.end - grid.start
        assert source.read_runs(grid) == expected
        assert not s3.asked()


def test_an_object_that_was_replaced_is_noticed(s3: S3Server, bucket: S3Store) -> None:
    """The store itself refuses: 412."""
    put(bucket, "survey/changing", CONTENT[:1000])
    with RemoteStores([root_at(s3)]) as stores:
        source = stores.open("s3://archive/survey/changing")
        assert source.read(0, 10) == CONTENT[:10]
        put(bucket, "survey/changing", CONTENT[1:1001])
        s3.asked()
        with pytest.raises(ObjectChangedError, match="has changed"):
            source.read(0, 10)
        assert [one.status for one in s3.asked()] == [412]
        again = stores.open("s3://archive/survey/changing")
        assert again.read(0, 10) == CONTENT[1:11]
        assert again.version.etag != source.version.etag


def test_lists_come_in_pages_with_versions(s3: S3Server) -> None:
    """Only the pages that are looked at are asked for; a list knows what a HEAD knows."""
    bucket = s3.make_bucket("many")
    for number in range(1100):
        put(bucket, f"a/{number // 1000}/{number:04d}.fits", b"x" * (number % 7))
    put(bucket, "ab/other.fits", b"x")
    with RemoteStores([root_at(s3, "s3://many")]) as stores:
        s3.asked()
        first = list(islice(stores.list("s3://many/a"), 5))
        assert [one.url for one in first] == [f"s3://many/a/0/{at:04d}.fits" for at in range(5)]
        assert first[3].version == stores.version_of(first[3].url)
        assert [one.kind for one in s3.asked()].count("LIST") == 1
        assert [one.url for one in stores.list("s3://many/a")] == [
            f"s3://many/a/{at // 1000}/{at:04d}.fits" for at in range(1100)
        ]
        assert [one.kind for one in s3.asked()] == ["LIST"] * 2
        assert [one.url for one in stores.list("s3://many/ab/")] == ["s3://many/ab/other.fits"]
        assert not list(stores.list("s3://many/nothing"))


@pytest.mark.parametrize(
    "name",
    ["a b.fits", "a%20b.fits", "é#1?x=2&y.fits", "a+b.fits", "~x/[1]{2}'(3).fits", "a\\b.fits"],
)
def test_keys_are_taken_as_they_are(s3: S3Server, bucket: S3Store, name: str) -> None:
    """What a list gives is opened."""
    put(bucket, f"survey/names/{name}", name.encode())
    with RemoteStores([root_at(s3)]) as stores:
        found = [one for one in stores.list("s3://archive/survey/names") if one.url.endswith(name)]
        assert [one.url for one in found] == [f"s3://archive/survey/names/{name}"]
        source = stores.open(found[0].url, found[0].version)
        assert source.read(0, source.version.size) == name.encode()


def test_names_that_no_url_can_have_are_left_out(
    s3: S3Server, bucket: S3Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A line break, say, would forge lines of the log; the other objects are listed."""
    for name in ("a.fits", "b\u2028b.fits", "c.fits"):
        put(bucket, f"survey/odd/{name}", b"x")
    with RemoteStores([root_at(s3)]) as stores:
        found = [one.url for one in stores.list("s3://archive/survey/odd")]
    assert found == ["s3://archive/survey/odd/a.fits", "s3://archive/survey/odd/c.fits"]
    assert [record.message for record in caplog.records] == [
        "'s3://archive/survey/odd/b\\u2028b.fits' is left out: its name is not supported"
    ]


def test_credentials(s3: S3Server, bucket: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the usual variables, or from variables of the root's own."""
    url = "s3://archive/survey/image.fits"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "usual")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("SURVEY_KEY", "own")
    monkeypatch.setenv("SURVEY_SECRET", "secret")
    usual = RemoteRoot(url="s3://archive", endpoint=s3.endpoint, region="us-east-1")
    own = RemoteRoot(
        url="s3://archive",
        endpoint=s3.endpoint,
        options={"region": "us-east-1"},
        secrets={"access_key_id": "SURVEY_KEY", "secret_access_key": "SURVEY_SECRET"},
    )
    for root, user in ((usual, "usual"), (own, "own")):
        with RemoteStores([root]) as stores:
            s3.asked()
            stores.open(url).read(0, 10)
            assert {one.user for one in s3.asked()} == {user}
    with pytest.raises(ConfigurationError, match="SURVEY_OTHER"):
        RemoteStores([RemoteRoot(url="s3://archive", secrets={"token": "SURVEY_OTHER"})])
    with pytest.raises(ConfigurationError, match="`token`") as raised:
        RemoteStores([RemoteRoot(url="s3://archive", secrets={"token": "kX9/the+secret"})])
    assert "kX9" not in str(raised.value)


def test_without_credentials(s3: S3Server, bucket: S3Store) -> None:
    """What is public is read; what is not is refused, and the message names nothing."""
    put(bucket, "survey/public", CONTENT[:100])
    s3.make_public("archive", "survey/public")
    root = RemoteRoot(
        url="s3://archive/survey", endpoint=s3.endpoint, region="us-east-1", anonymous=True
    )
    with RemoteStores([root]) as stores:
        s3.asked()
        assert stores.open("s3://archive/survey/public").read(0, 10) == CONTENT[:10]
        with pytest.raises(SourceUnavailableError, match="refuses access") as caught:
            stores.open("s3://archive/survey/image.fits")
        assert {one.user for one in s3.asked()} == {""}
    assert "archive" not in str(caught.value)


def test_only_what_is_below_the_root(s3: S3Server, bucket: S3Store) -> None:
    """Another bucket of the same server is another place."""
    s3.asked()
    with RemoteStores([root_at(s3)]) as stores:
        for url in ("s3://many/a/0/0000.fits", "s3://archive/other.fits", "s3://archive/survey2/x"):
            with pytest.raises(ConfigurationError, match="below the root of no collection"):
                stores.open(url)
        with pytest.raises(ConfigurationError, match="not supported"):
            stores.open("s3://archive/survey/../other.fits")
    assert not s3.asked()


def test_a_bucket_that_is_not_there(s3: S3Server) -> None:
    """Its objects are not found, and it cannot be listed."""
    limits = RemoteLimits(retries=1, retry_seconds=1)
    with RemoteStores([root_at(s3, "s3://nobucket")], limits=limits) as stores:
        with pytest.raises(FileNotFoundError):
            stores.open("s3://nobucket/x")
        with pytest.raises(SourceUnavailableError):
            list(stores.list("s3://nobucket"))


def test_a_bucket_is_scanned_without_its_images(s3: S3Server) -> None:
    """What ingest does: a list, and for each file its headers; the pixels stay where they are."""
    bucket = s3.make_bucket("nights")
    sizes = {}
    for night in range(5):
        images = [fits.PrimaryHDU()]
        for name in ("SCI", "VAR", "MASK"):
            pixels = np.full((600, 700 + night), night, np.float32)
            images.append(fits.ImageHDU(pixels, name=name))
        written = io.BytesIO()
        fits.HDUList(images).writeto(written)
        put(bucket, f"2026/{night}.fits", written.getvalue())
        sizes[f"s3://nights/2026/{night}.fits"] = len(written.getvalue())
    s3.asked()
    with RemoteStores([root_at(s3, "s3://nights/2026")]) as stores:
        found = {}
        for url, version in stores.list("s3://nights/2026"):
            source = stores.open(url, version)
            layouts = list(scan_hdus(HeaderWindow(source).read_at, version.size))
            found[url] = version.size
            assert [layout.name for layout in layouts] == ["", "SCI", "VAR", "MASK"]
    asked = s3.asked()
    assert found == sizes
    kinds = [one.kind for one in asked]
    assert set(kinds) == {"LIST", "GET"}
    # An empty primary HDU and the first image are one gulp.
    assert kinds.count("GET") <= 5 * 3
    assert sum(one.size for one in asked) < 0.05 * sum(sizes.values())
