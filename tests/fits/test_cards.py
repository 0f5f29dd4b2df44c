"""Cards and headers, judged by astropy and by the letter of FITS 4.0 §4."""

from __future__ import annotations

import pickle

import pytest
from astropy.io import fits
from hypothesis import given, strategies as st
from support.realdata import REAL_FILES, real_hdus

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import CARD_SIZE, Header, parse_value


def header_of(*lines: str | bytes) -> Header:
    """A header of these cards, filled up to 80 bytes."""
    raw = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return Header(b"".join(line.ljust(CARD_SIZE) for line in raw))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("                   T / yes", True),
        (" F", False),
        ("                 -42", -42),
        ("+7/comment", 7),
        (" 1.5", 1.5),
        (" .5", 0.5),
        (" 12.", 12.0),
        (" -1.25E-3", -0.00125),
        (" 1.5D+10 / double", 1.5e10),
        (" 2d3", 2000.0),
        (" 12345678901234567890", 12345678901234567890),
        (" 'it''s'", "it's"),
        (" 'a / b   ' / comment", "a / b"),
        (" '  lead'", "  lead"),
        (" ''", ""),
        (" '        '", ""),
        (" (1.0, -2)", 1 - 2j),
        ("", None),
        ("          / undefined", None),
        (" 5\0\0", 5),
    ],
)
def test_values_are_read(field: str, value: object) -> None:
    """FITS 4.0 §4.2, in free format, with what old writers left."""
    found = parse_value(field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "field",
    [" 'no end", " 1.2.3", " TRUE", " abc", " NaN", " -Inf", " 1 2x", " 0x10", " 1_0", "(1)"],
)
def test_nonsense_is_no_value(field: str) -> None:
    """What no grammar of §4.2 covers raises, and is never guessed at."""
    if field == " 1 2x":  # a number, and then what some writers leave where a comment should be
        assert parse_value(field) == 1
    else:
        with pytest.raises(ValueError, match="cannot be read"):
            parse_value(field)


def test_an_illegible_card_is_kept_and_named() -> None:
    """`get` gives the default, indexing names the card, its bytes stay."""
    header = header_of("GOOD    =                    1", "BAD     = 'no end", "WORSE   = NaN")
    assert header.get("BAD") is None
    assert header.get("BAD", 5) == 5
    assert header["GOOD"] == 1
    with pytest.raises(CorruptFileError, match=r"WORSE.*NaN"):
        header["WORSE"]
    with pytest.raises(KeyError):
        header["ABSENT"]
    assert header.raw == Header.parse(header.render()).raw


def test_the_first_of_several_wins() -> None:
    """The others can still be asked for."""
    header = header_of("A       = 1", "B       = 2", "A       = 3", "A       = oops")
    assert header["A"] == 1
    assert header.values("A") == (1, 3)
    assert header.positions("A") == (0, 2, 3)
    assert [one.keyword for one in header] == ["A", "B", "A", "A"]


def test_undefined_is_not_absent() -> None:
    """FITS 4.0 §4.1.2.3."""
    header = header_of("U       =                      / nothing")
    assert "U" in header
    assert header["U"] is None
    assert header.get("U", "default") == "default"


def test_long_strings_are_joined() -> None:
    """FITS 4.0 §4.2.1.2; an ampersand that nothing follows is an ampersand."""
    header = header_of(
        "LONG    = 'one &'", "CONTINUE  'two&'", "CONTINUE  ' three' / end", "AMP     = 'a&'"
    )
    assert header["LONG"] == "one two three"
    assert header["AMP"] == "a&"


def test_hierarch_cards_are_found_by_their_words() -> None:
    """In any case, short names and long."""
    header = header_of(
        "HIERARCH ESO DET NAME = 'chip''s' / c",
        "HIERARCH lower.case = 5",
        "HIERARCH SHORT=1",
        "HIERARCH nothing here",
    )
    assert header["ESO DET NAME"] == "chip's"
    assert header["eso det name"] == "chip's"
    assert header["LOWER.CASE"] == 5
    assert header["SHORT"] == 1
    assert header.positions("SHORT") == (2,)
    assert "nothing here" not in header


def test_commentary_has_no_value() -> None:
    """FITS 4.0 §4.1.2.2: whatever stands at column 9."""
    header = header_of("COMMENT = 'not a value'", "HISTORY  =  5", "        = 5", "NOVALUE 5")
    assert [header.get(name) for name in ("COMMENT", "HISTORY", "", "NOVALUE")] == [None] * 4


def test_numbers_keep_their_characters() -> None:
    """More digits than a double has are there for decimal arithmetic."""
    header = header_of("A       = 150.5123456789012345678 / x", "B       =  -0.0", "C       = 'x'")
    assert header.literal("A") == "150.5123456789012345678"
    assert header.literal("B") == "-0.0"
    assert header.literal("C") is None
    assert header.literal("D") is None


def test_typed_access() -> None:
    """A value of another type is none."""
    header = header_of("I       = 5", "F       = 5.5", "L       = T", "S       = 'text'")
    assert [header.integer(name) for name in "IFLSX"] == [5, None, None, None, None]
    assert [header.number(name) for name in "IFLSX"] == [5.0, 5.5, None, None, None]
    assert [header.string(name) for name in "IFLSX"] == [None, None, None, "text", None]


def test_bytes_beyond_ascii_survive() -> None:
    """Read as Latin-1, written as they came."""
    line = b"OBSERVER= 'Jos\xe9 \xff'  / na\xc3\xafve".ljust(80)
    header = Header.parse(line + b"END".ljust(80))
    assert header["OBSERVER"] == "Jos\xe9 \xff"
    assert header.raw == line
    assert header.render()[:80] == line


def test_a_header_is_a_value() -> None:
    """Equal, hashable, and fit to be sent to another process."""
    header = header_of("A       = 1")
    assert pickle.loads(pickle.dumps(header)) == header
    assert hash(header) == hash(header_of("A       = 1"))
    assert header != header_of("A       = 2")


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_headers_read_as_astropy_reads_them(name: str) -> None:
    """Every value and its type."""
    _, hdus = real_hdus(name)
    compared = 0
    for hdu in hdus:
        theirs = fits.Header.fromstring(hdu.header.render().replace(b"\0", b" "))
        for one in theirs.cards:
            if one.keyword in {"COMMENT", "HISTORY", ""} or one.field_specifier:
                continue
            if isinstance(one.value, fits.card.Undefined):
                assert hdu.header[one.keyword] is None
                continue
            mine = hdu.header[one.keyword]
            assert mine == theirs[one.keyword]
            assert type(mine) is type(theirs[one.keyword])
            compared += 1
    assert compared


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_header_or_a_corrupt_one(raw: bytes) -> None:
    """No other outcome, and reading never raises anything else."""
    try:
        header = Header.parse(raw)
    except CorruptFileError:
        return
    assert header.raw == raw[: len(header.raw)]
    for one in header:
        assert header.get(one.keyword, 0) is not None
        assert one.keyword in header
        assert one.text is not None
        header.literal(one.keyword)
        header.values(one.keyword)


@given(
    st.lists(
        st.sampled_from(
            ["A       = ", "HIERARCH A B = ", "CONTINUE  ", "HISTORY   ", "END     "]
        ).flatmap(
            lambda start: st.text(alphabet="'&/ T1.E-\xff\0=", max_size=30).map(start.__add__)
        ),
        max_size=8,
    )
)
def test_odd_cards_never_break_a_header(lines: list[str]) -> None:
    """Quotes, ampersands, END and NUL in any place."""
    header = Header.parse(header_of(*lines).raw)
    for one in header:
        header.get(one.keyword)
        header.values(one.keyword)
    assert Header.parse(header.render()) == header
