"""ObsCore 1.1 rows: what the catalog knows of a dataset, and where its links are.

Which columns there are, with their units, UCDs and utypes, stands in the template
`sia2.xml`; here is what goes into them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from soda_service.catalog.dataset import ObsCore
from soda_service.catalog.query import ACCESS_FORMAT
from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from soda_service.discovery.urls import Urls
    from soda_service.votable.table import Block, Column, Field, Value

LINKS_MEDIA_TYPE: Final = ACCESS_FORMAT
"""The media type of links documents to the letter: clients compare the whole string."""

MANDATORY_COLUMNS: Final = (
    "dataproduct_type", "calib_level", "obs_collection", "obs_id", "obs_publisher_did",
    "access_url", "access_format", "access_estsize", "target_name", "s_ra", "s_dec", "s_fov",
    "s_region", "s_resolution", "s_xel1", "s_xel2", "t_min", "t_max", "t_exptime",
    "t_resolution", "t_xel", "em_min", "em_max", "em_res_power", "em_xel", "o_ucd",
    "pol_states", "pol_xel", "facility_name", "instrument_name",
)  # fmt: skip
"""The columns that every ObsCore 1.1 table has (its table 1)."""


class ObsCoreTable:
    """Makes tables of *fields* out of what the catalog knows."""

    def __init__(self, fields: Sequence[Field], urls: Urls) -> None:
        """Raises ConfigurationError where a mandatory column is missing or one is unknown."""
        self.fields = tuple(fields)
        self._names = [field.name for field in fields]
        self._urls = urls
        self.link_beginning = urls.links_endpoint
        """Of every link: where this client sees the service."""
        missing = [name for name in MANDATORY_COLUMNS if name not in self._names]
        if missing:
            raise ConfigurationError(f"sia2.xml lacks the ObsCore columns {', '.join(missing)}")
        self.facts = tuple(name for name in self._names if name not in _MADE_HERE)
        """The columns that the catalog is asked for, in their order."""
        for name in self.facts:
            if name not in ObsCore.__dataclass_fields__:
                raise ConfigurationError(
                    f"sia2.xml has a column that nothing is known of: {name!r}"
                )

    def block(self, rows: Sequence[Sequence[Value]]) -> Block:
        """*rows* of `facts`, at least one, with what the catalog does not know."""
        return self._block(rows, self._urls.links_of_each)

    def short_block(self, rows: Sequence[Sequence[Value]]) -> Block:
        """The same with links that lack their beginning."""
        return self._block(rows, self.short_links)

    def short_links(self, identifiers: Sequence[str]) -> list[str]:
        """The links of datasets without their beginning: these are the same for every client."""
        length = len(self.link_beginning)
        return [link[length:] for link in self._urls.links_of_each(identifiers)]

    def _block(
        self,
        rows: Sequence[Sequence[Value]],
        links_of: Callable[[Sequence[str]], Sequence[str]],
    ) -> Block:
        columns: dict[str, Column] = dict(zip(self.facts, zip(*rows, strict=True), strict=True))
        identifiers = cast("Sequence[str]", columns["obs_publisher_did"])
        columns[LINK_COLUMN] = links_of(identifiers)
        columns["access_format"] = [LINKS_MEDIA_TYPE] * len(rows)
        return [columns[name] for name in self._names]


LINK_COLUMN: Final = "access_url"
_MADE_HERE: Final = frozenset({LINK_COLUMN, "access_format"})
