"""Names and values as they come, by what `Params` makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

import pytest
from hypothesis import given, strategies as st

from soda_service.errors import UsageError
from soda_service.web.params import Params
from soda_service.web.urlencoded import MAX_PARAMETERS

if TYPE_CHECKING:
    from soda_service.cutout.request import CutoutRequest

DID = "ivo://demo.invalid/visits?a b/c+d&e=é.fits"


def cutout(query: str | bytes) -> CutoutRequest:
    """What SODA makes of *query*."""
    encoded = query if isinstance(query, bytes) else query.encode()
    return Params(encoded).cutout().request


@pytest.mark.parametrize("name", ["ID", "id", "Id", "iD", "%49D", "i%64"])
def test_names_are_compared_without_regard_to_case(name: str) -> None:
    """However it is spelt and encoded, ID is ID."""
    assert cutout(f"{name}=x").identifier == "x"


@pytest.mark.parametrize("quoting", [quote, quote_plus])
def test_values_are_percent_encoded_utf8(quoting: object) -> None:
    """A publisher DID of blanks, plus signs, ampersands and accents arrives whole."""
    assert callable(quoting)
    assert cutout(f"ID={quoting(DID, safe='')}").identifier == DID


def test_raw_utf8_is_read_too() -> None:
    """Clients that do not encode at all are understood where that is unambiguous."""
    assert cutout("ID=ivo://x/y?é".encode()).identifier == "ivo://x/y?é"


@pytest.mark.parametrize("value", [b"%FF%FE", b"\xff\xfe", b"a%C3", b"%ED%A0%80"])
def test_what_is_not_utf8_is_refused(value: bytes) -> None:
    """Lone surrogates and broken sequences never become text."""
    with pytest.raises(UsageError, match="ID is not UTF-8"):
        cutout(b"ID=" + value)


def test_hostile_bytes_where_nobody_looks_are_ignored() -> None:
    """An unknown parameter may hold anything."""
    assert cutout(b"ID=x&%FF=%FF&r=0.1&\xff\xfe=1").identifier == "x"


def test_a_flood_of_parameters_is_refused() -> None:
    """Splitting them would hold up everybody else."""
    with pytest.raises(UsageError, match="at most"):
        Params(b"ID=x&" * (MAX_PARAMETERS + 1))


@given(st.text("%20+4gF", min_size=1, max_size=12))
def test_escapes_are_what_urllib_makes_of_them(raw: str) -> None:
    """Blanks are decoded apart; whole, broken and nested escapes are what they always are."""
    try:
        ((_, expected),) = parse_qsl(f"ID={raw}", errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(UsageError, match="ID is not UTF-8"):
            Params(f"ID={raw}".encode()).links()
        return
    identifiers = Params(f"ID={raw}".encode()).links().identifiers
    assert identifiers == (() if expected.isspace() else (expected,))


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=5))
def test_splitting_agrees_with_the_standard_library(pairs: list[tuple[str, str]]) -> None:
    """What a client encodes is what is read."""
    encoded = urlencode(pairs, errors="replace")
    identifiers = [value for name, value in parse_qsl(encoded) if name.upper() == "ID"]
    wanted = tuple(dict.fromkeys(value for value in identifiers if not value.isspace()))
    assert Params(encoded.encode()).links().identifiers == wanted
