"""The catalog's tables.

The migrations make them; `tests/catalog/test_schema.py` holds the two together. ObsCore
columns have the names, units and meanings of ObsCore 1.1. Times of files are nanoseconds
since 1970; offsets are bytes.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    column,
    table,
)

HEAD: Final = "0003"
"""The revision of the schema that this code reads and writes."""

APPLICATION_ID: Final = 0x534F4441
"""`PRAGMA application_id` of a catalog: the letters SODA."""

metadata = MetaData()

collection = Table(
    "collection",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_folded", Text, nullable=False, unique=True),
    Column("roots", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("settings", Text, nullable=False),
)
"""One row for each collection.

`settings` is its `CollectionConfig` and `roots` a list of paths, both as JSON.
"""

dataset = Table(
    "dataset",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("collection_id", ForeignKey("collection.id"), nullable=False),
    Column("did_folded", Text, nullable=False, unique=True),
    Column("local_part", Text, nullable=False),
    Column("path", Text, nullable=False, unique=True),
    Column("size", Integer, nullable=False),
    Column("modified_ns", Integer, nullable=False),
    Column("tag", Text, nullable=False, server_default=""),
    Column("media_type", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("scan", Integer, nullable=False),
    Column("cap_lon", Double),
    Column("cap_lat", Double),
    Column("cap_radius", Double),
    Column("polygons", LargeBinary),
    Column("dataproduct_type", Text),
    Column("dataproduct_subtype", Text),
    Column("calib_level", Integer, nullable=False),
    Column("obs_collection", Text, nullable=False),
    Column("obs_id", Text, nullable=False),
    Column("obs_publisher_did", Text, nullable=False),
    Column("obs_title", Text),
    Column("access_estsize", Integer, nullable=False),
    Column("target_name", Text),
    Column("s_ra", Double),
    Column("s_dec", Double),
    Column("s_fov", Double),
    Column("s_region", Text),
    Column("s_resolution", Double),
    Column("s_pixel_scale", Double),
    Column("s_xel1", Integer),
    Column("s_xel2", Integer),
    Column("t_min", Double),
    Column("t_max", Double),
    Column("t_exptime", Double),
    Column("t_resolution", Double),
    Column("t_xel", Integer),
    Column("em_min", Double),
    Column("em_max", Double),
    Column("em_res_power", Double),
    Column("em_xel", Integer),
    Column("lsst_band", Text),
    Column("o_ucd", Text),
    Column("pol_states", Text),
    Column("pol_xel", Integer),
    Column("facility_name", Text),
    Column("instrument_name", Text),
    Index("dataset_by_observation", "collection_id", "obs_id"),
    Index("dataset_by_band", "collection_id", "lsst_band"),
    Index("dataset_by_target", "target_name"),
)
"""One row for each file.

`path` is that of a file or the URL of an object in a store; `tag` is the entity tag that the
store gave with it, empty for files. `fingerprint` tells the settings and the software that made
the row; `revision` grows with every write of it; `scan` is the last ingest that saw the file.
"""

hdu = Table(
    "hdu",
    metadata,
    Column("dataset_id", ForeignKey("dataset.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("bitpix", Integer, nullable=False),
    Column("naxis", Text, nullable=False),
    Column("header_offset", Integer, nullable=False),
    Column("data_offset", Integer, nullable=False),
    Column("data_size", Integer, nullable=False),
    Column("cards", LargeBinary, nullable=False),
)
"""One row for each HDU; `naxis` is a JSON array, `cards` the header deflated (zlib)."""

piece = Table(
    "piece",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", ForeignKey("dataset.id", ondelete="CASCADE"), nullable=False),
    Index("piece_by_dataset", "dataset_id"),
)
"""One row for each polygon of a footprint; a trigger removes its box with it."""

FIRST_PIECE: Final = 1 << 62
MOST_PIECES: Final = 1 << 20
"""The piece n of a dataset has the id `FIRST_PIECE` + dataset_id · `MOST_PIECES` + n."""

ready_row = Table(
    "ready_row",
    metadata,
    Column("dataset_id", ForeignKey("dataset.id", ondelete="CASCADE"), primary_key=True),
    Column("form", Integer, nullable=False),
    Column("tabledata", LargeBinary, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("link_length", Integer, nullable=False),
    Column("tail", LargeBinary, nullable=False),
)
"""Rows of datasets as answers have them (`votable.readyrows`); the catalog understands none.

`form` tells what made the others. A trigger removes one when its dataset is written again.
"""

FACET_COLUMNS: Final = (
    "collection_id", "obs_collection", "facility_name", "instrument_name", "dataproduct_type",
    "dataproduct_subtype", "calib_level", "lsst_band", "pol_states",
)  # fmt: skip

facet = Table(
    "facet",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("datasets", Integer, nullable=False),
    Column("collection_id", Integer, nullable=False),
    Column("obs_collection", Text, nullable=False),
    Column("facility_name", Text),
    Column("instrument_name", Text),
    Column("dataproduct_type", Text),
    Column("dataproduct_subtype", Text),
    Column("calib_level", Integer, nullable=False),
    Column("lsst_band", Text),
    Column("pol_states", Text),
    Index("facet_by_values", *FACET_COLUMNS),
)
"""One row for each set of values that some datasets have in the columns with few values.

Triggers keep it; `datasets` is how many have them.
"""

counters = Table(
    "counters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("scan", Integer, nullable=False),
)
"""One row: the last `revision` and the last `scan` given out."""

BOX_COLUMNS: Final = ("min_x", "max_x", "min_y", "max_y", "min_z", "max_z")

piece_box = table(
    "piece_box", column("id"), *(column(name) for name in BOX_COLUMNS), column("dataset_id")
)
"""The R*Tree over the boxes of the pieces, in the unit vectors' x, y and z.

SQLite keeps the numbers in 32 bits and rounds them outwards, so a box never shrinks.
It is a virtual table, which `metadata` cannot describe.
"""

SPAN_COLUMNS: Final = ("min_facet", "max_facet", "min_t", "max_t", "min_em", "max_em")

FACET_UNIT: Final = 1e6
"""Datasets of a facet stand at its id times this in `dataset_span`, and less than half beyond."""

dataset_span = table("dataset_span", column("id"), *(column(name) for name in SPAN_COLUMNS))
"""The R*Tree over facet, time (MJD) and wavelength (nanometres) of each dataset.

Triggers keep it. It is a virtual table like `piece_box`. Its boxes are a little wider than the
datasets; times are kept within 1e8 days of 0 and wavelengths within 0 to 1e15, and what is null
stands at -1e9.
"""
