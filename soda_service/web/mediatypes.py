"""Media types that are asked for, and what is given under them (DALI 1.1 §3.4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.votable.delimited import Delimited
from soda_service.votable.document import MEDIA_TYPE as VOTABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Set as AbstractSet
    from typing import Self

    from soda_service.discovery.sia2 import Form


FITS: Final = {
    "application/fits": "application/fits",
    "image/fits": "image/fits",
    "fits": "application/fits",
}
"""Media types of cutouts by the names that they are asked for."""

TEXT: Final = frozenset({"text/plain", "text", "txt"})
"""Names of what headers alone come as."""

VOTABLES: Final = {"votable": VOTABLE, VOTABLE: VOTABLE, "text/xml": "text/xml"}
"""Media types of VOTables by the names that they are asked for."""

CHARSETS: Final = frozenset({"us-ascii", "utf-8"})
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
TEXT_TABLES: Final[dict[str, tuple[Form, str]]] = {
    "csv": _CSV,
    "text/csv": _CSV,
    "tsv": _TSV,
    "text/tab-separated-values": _TSV,
}
"""Tables of text by the names that they are asked for: their form, and the media type sent."""


@dataclass(frozen=True, slots=True)
class MediaType:
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

    def repeated(self) -> str:
        """Its parameters as the answer says them again (DALI 1.1 §3.4.3)."""
        said = {
            "serialization": self.parameters.get("serialization", "").upper(),
            "charset": self.parameters.get("charset", ""),
        }
        return "".join(f";{name}={value}" for name, value in said.items() if value)
