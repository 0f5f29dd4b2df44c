"""Conditions of requests: dates and tags as RFC 9110 spells them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from starlette.exceptions import HTTPException

from soda_service.web.responses import is_unmodified, parse_http_date, require_version

if TYPE_CHECKING:
    from collections.abc import Iterator

ETAG = b'"abc-1"'


@pytest.fixture(name="zone", params=["UTC", "America/Los_Angeles"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server's own time zone means nothing."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        # The three forms of §5.6.7.
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 784_111_777),
        ("Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("yesterday", None),
        ("6 Nov 94", None),
        ("0", None),
        ("", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
    ],
)
def test_dates(text: str, seconds: int | None) -> None:
    assert parse_http_date(text.encode()) == seconds


@pytest.mark.parametrize(
    ("tags", "strong", "weak"),
    [
        (b'"abc-1"', True, True),
        (b'W/"abc-1"', False, True),
        (b"*", True, True),
        (b'"x", "abc-1"', True, True),
        (b'"x","abc-1"', True, True),
        (b', ,"abc-1",', True, True),
        (b'"a\xffb", "abc-1"', True, True),
        (b'w/"abc-1"', False, False),
        (b'x"abc-1"', False, False),
        (b'"abc-1', False, False),
        (b"abc-1", False, False),
        (b'"*"', False, False),
    ],
)
def test_tags(tags: bytes, *, strong: bool, weak: bool) -> None:
    """If-Match compares strongly, If-None-Match weakly (§8.8.3.2)."""
    scope = {"headers": [(b"if-none-match", tags), (b"if-match", tags)]}
    assert is_unmodified(scope, etag=ETAG, modified_ns=0) == weak
    if strong:
        require_version(scope, etag=ETAG, modified_ns=0)
    else:
        with pytest.raises(HTTPException, match="If-Match"):
            require_version(scope, etag=ETAG, modified_ns=0)
