"""ObsCore 1.1 rows: what the catalog knows of a dataset, and where its links are.

Which columns there are, with their units, UCDs and utypes, stands in the template
`sia2.xml`; here is what goes into them.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from soda_service.catalog.dataset import ObsCore
from soda_service.catalog.query import ACCESS_FORMAT
from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from soda_service.discovery.urls import Urls
    from soda_service.votable.table import Field, Value

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


def row_maker(fields: Sequence[Field], urls: Urls) -> Callable[[ObsCore], tuple[Value, ...]]:
    """What turns the facts of a dataset into a row of *fields*.

    Raises ConfigurationError where a mandatory column is missing or a column is unknown.
    """
    names = [field.name for field in fields]
    missing = [name for name in MANDATORY_COLUMNS if name not in names]
    if missing:
        raise ConfigurationError(f"sia2.xml lacks the ObsCore columns {', '.join(missing)}")
    readers = tuple(_reader(name, urls) for name in names)

    def row(facts: ObsCore) -> tuple[Value, ...]:
        return tuple([read(facts) for read in readers])

    return row


def _reader(name: str, urls: Urls) -> Callable[[ObsCore], Value]:
    if name == "access_url":
        return lambda facts: urls.links(facts.obs_publisher_did)
    if name == "access_format":
        return lambda facts: LINKS_MEDIA_TYPE  # noqa: ARG005 - the same for every dataset
    if name not in ObsCore.__dataclass_fields__:
        raise ConfigurationError(f"sia2.xml has a column that nothing is known of: {name!r}")
    return attrgetter(name)
