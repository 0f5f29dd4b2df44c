"""`soda-service ingest`, `check`, `cut` and `serve` with buckets, as an operator types them."""

from __future__ import annotations

import io
import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from support.command import run_command, served
from support.s3server import put, s3_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "operator", "AWS_SECRET_ACCESS_KEY": "secret"}
PATIENT = {
    "SODA_REMOTE_TIMEOUT_SECONDS": "60",
    "SODA_REMOTE_RETRIES": "1",
    "SODA_REMOTE_RETRY_SECONDS": "1",
}
"""For stores that answer, on a slow machine, and for those that are not there."""
HASTY = {**PATIENT, "SODA_REMOTE_TIMEOUT_SECONDS": "2"}
"""For one that takes a connection and is silent."""
PIXELS = np.arange(120 * 100, dtype=np.float32).reshape(100, 120)


def _image() -> bytes:
    header = fits.Header()
    header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0, CRPIX1=60.0, CRPIX2=50.0,
        CDELT1=-1e-4, CDELT2=1e-4,
    )  # fmt: skip
    written = io.BytesIO()
    fits.PrimaryHDU(PIXELS, header).writeto(written)
    return written.getvalue()


def _configure(folder: Path, endpoint: str, more: str = "") -> None:
    (folder / "soda.toml").write_text('authority = "archive.example"\n')
    (folder / "collections.toml").write_text(
        '[collections.sky]\nroot = "s3://archive/sky"\n'
        f'[collections.sky.store]\nendpoint = "{endpoint}"\nregion = "us-east-1"\n{more}'
    )


def _run(
    folder: Path, *arguments: str, environment: Mapping[str, str] = KEYS
) -> subprocess.CompletedProcess[str]:
    return run_command(
        *arguments, "--config", "soda.toml", folder=folder, environment={**PATIENT, **environment}
    )


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's is used."""
    for name in list(os.environ):
        if name.startswith("AWS_") and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)


@contextmanager
def _archive(folder: Path) -> Iterator[str]:
    """A bucket with an image in it, and its configuration in *folder*; the endpoint."""
    with s3_server() as s3:
        put(s3.make_bucket("archive"), "sky/m31.fits", _image())
        _configure(folder, s3.endpoint)
        yield s3.endpoint


def test_ingest_serve_check_and_cut(tmp_path: Path) -> None:
    with _archive(tmp_path):
        done = _run(tmp_path, "ingest", "s3://archive/sky")
        assert (done.returncode, done.stdout.split(",")[0]) == (0, "1 added"), done.stderr
        done = _run(tmp_path, "check")
        assert (done.returncode, done.stdout) == (0, "1 dataset checked, 0 problems\n")
        for source in ("s3://archive/sky/m31.fits", "ivo://archive.example/sky?m31.fits"):
            done = _run(tmp_path, "cut", source, "--pixels", "[11:30,21:50]", "-o", "cut.fits")
            assert done.returncode == 0, done.stderr
            with fits.open(tmp_path / "cut.fits") as hdus:
                np.testing.assert_array_equal(hdus[0].data, PIXELS[20:50, 10:30])
        with served(
            "serve", "--config", "soda.toml", "--workers", "2",
            folder=tmp_path, environment={**KEYS, **PATIENT},
        ) as service:  # fmt: skip
            url = f"{service.base}soda/sync?ID=ivo://archive.example/sky?m31.fits&PIXELS=[1:9,1:9]"
            for _ in range(6):
                answer = httpx2.get(url, timeout=60)
                assert answer.status_code == 200
                with fits.open(io.BytesIO(answer.content)) as hdus:
                    np.testing.assert_array_equal(hdus[0].data, PIXELS[:9, :9])


def test_a_collection_that_is_added_is_served_at_once(tmp_path: Path) -> None:
    with s3_server() as s3:
        bucket = s3.make_bucket("archive")
        put(bucket, "sky/m31.fits", _image())
        _configure(tmp_path, s3.endpoint)
        with served(
            "serve", "--config", "soda.toml", folder=tmp_path, environment={**KEYS, **PATIENT}
        ) as service:
            url = f"{service.base}files/sky/m31.fits"
            assert httpx2.get(url, timeout=60).status_code == 404
            assert _run(tmp_path, "ingest", "s3://archive/sky").returncode == 0
            assert httpx2.get(url, timeout=60).content == _image()


def test_wrong_credentials_are_said_and_nothing_is_lost(tmp_path: Path) -> None:
    with _archive(tmp_path):
        assert _run(tmp_path, "ingest", "s3://archive/sky").returncode == 0
    with s3_server(trusting=2) as strict:
        put(strict.make_bucket("archive"), "sky/m31.fits", _image())
        _configure(tmp_path, strict.endpoint)
        done = _run(tmp_path, "ingest", "s3://archive/sky")
        assert done.returncode == 1
        assert "skipped s3://archive/sky: cannot be listed: the store refuses access" in done.stderr
        assert "0 removed" in done.stdout
        assert "Traceback" not in done.stderr
        # The catalog has the endpoint of the first server until an ingest finds something.
        done = _run(tmp_path, "check")
        assert done.returncode == 1
        assert "collection sky: its root s3://archive/sky cannot be listed: " in done.stderr
        assert "its 1 datasets there were not looked at" in done.stderr


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with _archive(tmp_path):
        assert _run(tmp_path, "ingest", "s3://archive/sky").returncode == 0
    done = _run(tmp_path, "ingest", "s3://archive/sky")
    assert done.returncode == 1
    assert "cannot be listed: the store is not there, or does not answer in time" in done.stderr
    assert "0 removed" in done.stdout
    done = _run(tmp_path, "check")
    assert done.returncode == 1
    assert "the store is not there" in done.stderr
    # The service starts, is alive, and says of that dataset what it can.
    with served(
        "serve", "--config", "soda.toml", folder=tmp_path, environment={**KEYS, **PATIENT}
    ) as service:
        assert httpx2.get(f"{service.base}health", timeout=60).status_code == 200
        assert "true" in httpx2.get(f"{service.base}availability", timeout=60).text
        answer = httpx2.get(f"{service.base}files/sky/m31.fits", timeout=60)
        assert answer.status_code == 503
        assert answer.text.startswith("ServiceUnavailable: cannot be read: the store is not there")


def test_a_bucket_that_is_not_there(tmp_path: Path) -> None:
    with s3_server() as s3:
        _configure(tmp_path, s3.endpoint)
        done = _run(tmp_path, "ingest", "s3://archive/sky")
        assert done.returncode == 1
        assert "there is no such bucket" in done.stderr


def test_secrets_come_from_variables(tmp_path: Path) -> None:
    with _archive(tmp_path) as endpoint:
        secrets = 'secrets = { access_key_id = "SKY_ID", secret_access_key = "SKY_SECRET" }\n'
        _configure(tmp_path, endpoint, secrets)
        done = _run(tmp_path, "ingest", "s3://archive/sky", environment={"SKY_ID": "a"})
        assert done.returncode == 2
        assert "the environment has no variable SKY_SECRET" in done.stderr
        both = {"SKY_ID": "a", "SKY_SECRET": "not to be found"}
        assert _run(tmp_path, "ingest", "s3://archive/sky", environment=both).returncode == 0
        assert b"not to be found" not in (tmp_path / "soda-data" / "catalog.sqlite").read_bytes()
        # A service without them says so where it matters, and nowhere else.
        one = {"SKY_ID": "a"}
        with served("serve", "--config", "soda.toml", folder=tmp_path, environment=one) as service:
            answer = httpx2.get(f"{service.base}files/sky/m31.fits", timeout=60)
            assert answer.status_code == 503
            assert "its store is not set up as it should be" in answer.text
            end = time.monotonic() + 60
            while not any("SKY_SECRET" in line for line in service.log):
                assert time.monotonic() < end, service.log
                time.sleep(0.02)
        done = _run(tmp_path, "check", environment=one)
        assert done.returncode == 1
        assert "SKY_SECRET" in done.stderr
        _configure(tmp_path, endpoint, 'options = { secret_access_key = "x" }\n')
        done = _run(tmp_path, "ingest", "s3://archive/sky")
        assert done.returncode == 2
        assert "belongs into secrets" in done.stderr


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3:///sky", "not the URL of an object in a store"),
        ("s3://archive/../sky", "not supported"),
        ("https://user:word@host/sky", "not supported"),
        ("ftp://host/sky", "only files, folders and URLs"),
    ],
)
def test_urls_that_cannot_be_right(tmp_path: Path, url: str, message: str) -> None:
    done = run_command("ingest", url, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.rglob("*.fits"))


def test_without_credentials_it_says_what_is_missing(tmp_path: Path) -> None:
    """The machine's own identity is asked for, which no such machine has."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        _configure(
            tmp_path, "http://127.0.0.1:9", f'options = {{ metadata_endpoint = "{endpoint}" }}\n'
        )
        done = _run(tmp_path, "ingest", "s3://archive/sky", environment=HASTY)
    assert done.returncode == 1
    assert "skipped s3://archive/sky: cannot be listed: " in done.stderr
