"""Media types that are asked for, and what is given under them (DALI 1.1 §3.4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.votable.delimited import Delimited
from soda_service.votable.document import MEDIA_TYPE as VOTABLE, Serialization

if TYPE_CHECKING:
    from collections.abc import Mapping, Set as AbstractSet
    from typing import Self

    from soda_service.discovery.sia2 import Form

_FITS: Final = {
    "application/fits": "application/fits",
    "image/fits": "image/fits",
    "fits": "application/fits",
}
"""Media types of cutouts by the names that they are asked for."""

_TEXT: Final = frozenset({"text/plain", "text", "txt"})
"""Names of what headers alone come as."""

_VOTABLES: Final = {"votable": VOTABLE, VOTABLE: VOTABLE, "text/xml": "text/xml"}
"""Media types of VOTables by the names that they are asked for."""

_CHARSETS: Final = frozenset({"us-ascii", "utf-8"})
"""Those that a document in pure ASCII is in."""

_UNHONOURED: Final[Mapping[str, AbstractSet[str]]] = {
    "charset": frozenset(),
    "content": frozenset(),
    "header": frozenset(),
    "serialization": frozenset(),
}
"""Parameters of media types that mean something, unless an endpoint says which values it takes."""

_CSV: Final = (Delimited.CSV, "text/csv;charset=utf-8;header=present")
_TSV: Final = (Delimited.TSV, "text/tab-separated-values;charset=utf-8")
_TEXT_TABLES: Final[dict[str, tuple[Form, str]]] = {
    "csv": _CSV,
    "text/csv": _CSV,
    "tsv": _TSV,
    "text/tab-separated-values": _TSV,
}
"""Tables of text by the names that they are asked for: their form, and the media type sent."""


def fits_type(text: str) -> str | None:
    """The media type of a cutout for which *text* asks; None where it asks for anything else."""
    return _FITS.get(_Asked.of(text).name)


def is_plain_text(text: str) -> bool:
    """Whether *text* asks for what headers alone come as."""
    return _Asked.of(text).name in _TEXT


def is_text_table(text: str) -> bool:
    """Whether *text* asks for a table as text, parameters that nobody can honour or not."""
    return _Asked.of(text).name in _TEXT_TABLES


def table_type(text: str) -> tuple[Form, str] | None:
    """The form of the table for which *text* asks, and the media type to send it under."""
    asked = _Asked.of(text)
    text_table = _TEXT_TABLES.get(asked.name)
    if text_table is not None and asked.says_only({"charset": {"utf-8"}, "header": {"present"}}):
        return text_table
    media_type = asked.votable({"serialization": {"tabledata", "binary2"}})
    if media_type is None:
        return None
    serialization = asked.parameters.get("serialization") or "tabledata"
    return Serialization(serialization.upper()), media_type


def links_type(text: str) -> str | None:
    """The media type of links for which *text* asks; DataLink 1.1 §3.3 has them in TABLEDATA."""
    return _Asked.of(text).votable({"serialization": {"tabledata"}, "content": {"datalink"}})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A media type that was asked for, or the short name of one; all in small letters."""

    name: str
    parameters: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Self:
        """What *text* says, however it is spelt."""
        name, *parameters = text.lower().split(";")
        pairs = (one.partition("=") for one in parameters)
        return cls(
            # The + of `x-votable+xml` is a blank where the client did not encode it.
            "+".join(name.split()),
            {key.strip(): value.strip(' \t"') for key, _, value in pairs},
        )

    def says_only(self, honoured: Mapping[str, AbstractSet[str]]) -> bool:
        """Whether its parameters have *honoured* values; those of other names say nothing.

        DALI 1.1 §3.4.3: parameters of a media type that was asked for must be honoured.
        """
        return all(
            self.parameters.get(name, "") in {"", *values}
            for name, values in {**_UNHONOURED, **honoured}.items()
        )

    def votable(self, honoured: Mapping[str, AbstractSet[str]]) -> str | None:
        """The media type to send a VOTable under, if one with *honoured* parameters is meant."""
        media_type = _VOTABLES.get(self.name)
        if media_type is None or not self.says_only({"charset": _CHARSETS, **honoured}):
            return None
        return media_type + self._repeated()

    def _repeated(self) -> str:
        """Its parameters as the answer says them again (DALI 1.1 §3.4.3)."""
        said = {
            "serialization": self.parameters.get("serialization", "").upper(),
            "charset": self.parameters.get("charset", ""),
        }
        return "".join(f";{name}={value}" for name, value in said.items() if value)
