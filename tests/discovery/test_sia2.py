"""Answers of SIA 2.0, as clients read them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from support.catalogs import (
    HOSTILE,
    HOSTILE_AS_READ,
    URLS,
    cube,
    hostile,
    make_dataset,
    make_settings,
    make_store,
    unplaced,
    visit,
)
from support.documents import (
    as_images,
    assert_valid_votable,
    complaints_of_stilts,
    descriptor,
    elements,
    input_params,
    parse_xml,
    read_votable,
    stated,
    strings,
)

from soda_service import __version__
from soda_service.catalog.dataset import ObsCore
from soda_service.catalog.query import CatalogQuery
from soda_service.catalog.rows import rows_of
from soda_service.discovery import sia2
from soda_service.discovery.obscore import MANDATORY_COLUMNS, ObsCoreTable
from soda_service.errors import ConfigurationError, SourceUnavailableError
from soda_service.votable.delimited import Delimited
from soda_service.votable.document import Serialization, load_template
from soda_service.votable.table import Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from support.golden import Golden

    from soda_service.catalog.store import CatalogStore, DistinctColumn
    from soda_service.config import Settings
    from soda_service.votable.table import Value

OBSCORE = """
dataproduct_type|char|*||meta.code.class|ObsDataset.dataProductType
calib_level|int|||meta.code;obs.calib|ObsDataset.calibLevel
obs_collection|char|*||meta.id|DataID.collection
obs_id|char|*||meta.id|DataID.observationID
obs_publisher_did|char|*||meta.ref.ivoid|Curation.publisherDID
access_url|char|*||meta.ref.url|Access.reference
access_format|char|*||meta.code.mime|Access.format
access_estsize|long||kbyte|phys.size;meta.file|Access.size
target_name|char|*||meta.id;src|Target.name
s_ra|double||deg|pos.eq.ra|Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C1
s_dec|double||deg|pos.eq.dec|Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C2
s_fov|double||deg|phys.angSize;instr.fov|Char.SpatialAxis.Coverage.Bounds.Extent.diameter
s_region|char|*||pos.outline;obs.field|Char.SpatialAxis.Coverage.Support.Area
s_resolution|double||arcsec|pos.angResolution|Char.SpatialAxis.Resolution.Refval.value
s_xel1|long|||meta.number|Char.SpatialAxis.numBins1
s_xel2|long|||meta.number|Char.SpatialAxis.numBins2
t_min|double||d|time.start;obs.exposure|Char.TimeAxis.Coverage.Bounds.Limits.StartTime
t_max|double||d|time.end;obs.exposure|Char.TimeAxis.Coverage.Bounds.Limits.StopTime
t_exptime|double||s|time.duration;obs.exposure|Char.TimeAxis.Coverage.Support.Extent
t_resolution|double||s|time.resolution|Char.TimeAxis.Resolution.Refval.value
t_xel|long|||meta.number|Char.TimeAxis.numBins
em_min|double||m|em.wl;stat.min|Char.SpectralAxis.Coverage.Bounds.Limits.LoLimit
em_max|double||m|em.wl;stat.max|Char.SpectralAxis.Coverage.Bounds.Limits.HiLimit
em_res_power|double|||spect.resolution|Char.SpectralAxis.Resolution.ResolPower.refVal
em_xel|long|||meta.number|Char.SpectralAxis.numBins
o_ucd|char|*||meta.ucd|Char.ObservableAxis.ucd
pol_states|char|*||meta.code;phys.polarization|Char.PolarizationAxis.stateList
pol_xel|long|||meta.number|Char.PolarizationAxis.numBins
facility_name|char|*||meta.id;instr.tel|Provenance.ObsConfig.Facility.name
instrument_name|char|*||meta.id;instr|Provenance.ObsConfig.Instrument.name
"""
"""ObsCore 1.1, table 7: name, datatype, arraysize, unit, UCD, utype."""


_OPTIONS = {"form", "maxrec", "echo"}


def ask(store: Any, settings: Settings, **constraints: Any) -> bytes:
    """The whole answer to a query; what is no constraint goes to `answer`."""
    options = {name: constraints.pop(name) for name in _OPTIONS & constraints.keys()}
    query = CatalogQuery(**constraints)
    return b"".join(sia2.answer(query, store=store, urls=URLS, settings=settings, **options))


def test_every_document_is_valid(store: CatalogStore, settings: Settings, tmp_path: Path) -> None:
    """Schema, astropy and STILTS have nothing against any kind of answer."""
    for document in (
        ask(store, settings),
        ask(store, settings, maxrec=1),
        ask(store, settings, maxrec=0),
        ask(store, settings, ids=("ivo://nobody/nothing?",)),
    ):
        assert_valid_votable(document)
        complaints = complaints_of_stilts("votlint", document, tmp_path)
        # pyvo stumbles over scalars without it (see the descriptors of SODA).
        assert [line for line in complaints if 'arraysize="1" deprecated' not in line] == []


def test_golden(store: CatalogStore, settings: Settings, golden: Golden) -> None:
    """The document as people see it."""
    document = ask(store, settings, echo=[("POS", "CIRCLE 150 2 0.1"), ("MAXREC", "5")])
    golden.check("sia2.xml", document.replace(__version__.encode(), b"VERSION"))


@pytest.mark.parametrize("line", OBSCORE.split(), ids=lambda line: line.partition("|")[0])
def test_columns_are_those_of_obscore(line: str) -> None:
    """Names, types, units, UCDs and utypes, letter for letter."""
    name, datatype, arraysize, unit, ucd, utype = line.split("|")
    (field,) = (field for field in load_template("sia2.xml").fields if field.name == name)
    assert (field.datatype, field.arraysize or "") == (datatype, arraysize)
    assert (field.unit or "", field.ucd) == (unit, ucd)
    assert field.utype == f"obscore:{utype}"


def test_no_column_is_forgotten() -> None:
    """All that the catalog knows is told, and what ObsCore demands is what the test knows."""
    names = [field.name for field in load_template("sia2.xml").fields]
    assert {field.name for field in fields(ObsCore)} < set(names)
    assert len(set(names)) == len(names)
    assert sorted(MANDATORY_COLUMNS) == sorted(line.partition("|")[0] for line in OBSCORE.split())


def test_rows_come_back_as_the_catalog_has_them(store: CatalogStore, settings: Settings) -> None:
    """Every column of every row, nulls included."""
    table = read_votable(ask(store, settings)).get_first_table().array
    for dataset in (visit(), cube(), unplaced()):
        (row,) = table[table["obs_publisher_did"] == dataset.publisher_did]
        for column in fields(ObsCore):
            value = getattr(dataset.obscore, column.name)
            if value is None:
                seen = row[column.name]
                assert seen in ("", None) or table.mask.dtype or math.isnan(seen)
            else:
                assert row[column.name] == value, column.name


def test_nulls_are_null(store: CatalogStore, settings: Settings) -> None:
    """Not zero, not the word None."""
    document = ask(store, settings, ids=(unplaced().publisher_did,))
    names = [field.name for field in load_template("sia2.xml").fields]
    cells = [cell.text for cell in parse_xml(document).iter("{*}TD")]
    facts = unplaced().obscore
    for name, text in zip(names, cells, strict=True):
        if getattr(facts, name, "url") is None:
            assert text is None


def test_pyvo_reads_rows(store: CatalogStore, settings: Settings) -> None:
    """Its typed attributes do arithmetic on every column."""
    images = as_images(ask(store, settings))
    image = images[0]
    assert image.access_format == "application/x-votable+xml;content=datalink"
    assert image.access_url == (
        "https://archive.example/vo/datalink/links?ID=ivo%3A%2F%2Farchive.example%2Fvisits%3Fvisit-1.fits"
    )
    assert image.getdataurl() == image.access_url
    assert image.getdataformat() == image.access_format
    assert image.s_ra.to_value("deg") == 150.0
    assert image.t_min.mjd == 60623.25
    assert image.em_min.to_value("m") == 4.02e-07
    assert image.access_estsize.to_value("kbyte") == 2000
    assert [type(getattr(one, name)) for one in images for name in ("s_ra", "t_max", "s_fov")]


def test_s_region_is_stc_text() -> None:
    """Of the type that production clients know."""
    (field,) = (one for one in load_template("sia2.xml").fields if one.name == "s_region")
    assert (field.datatype, field.arraysize, field.xtype) == ("char", "*", "adql:REGION")


def test_status_comes_first_and_the_standard_is_named(
    store: CatalogStore, settings: Settings
) -> None:
    """DALI 1.1 §4.4: OK before the table; the standard without its fragment."""
    root = parse_xml(ask(store, settings))
    infos = elements(root, "v:RESOURCE[@type='results']/v:INFO")
    assert (infos[0].get("name"), infos[0].get("value")) == ("QUERY_STATUS", "OK")
    assert ("standardID", "ivo://ivoa.net/std/SIA") in {
        (info.get("name"), info.get("value")) for info in infos
    }
    assert len(elements(root, "//v:RESOURCE")) == len(root), "pyvo sees top-level RESOURCEs only"


def test_truncation_is_told_after_the_table(store: CatalogStore, settings: Settings) -> None:
    """With exactly MAXREC rows (DALI 1.1 §4.4.1)."""
    document = ask(store, settings, maxrec=2)
    assert document.count(b"<TR>") == 2
    after = strings(parse_xml(document), "//v:TABLE/following-sibling::*/@value")
    assert after == ["OVERFLOW"]
    assert b"OVERFLOW" not in ask(store, settings, maxrec=4)


@pytest.mark.parametrize(("maxrec", "rows"), [(None, 5), (3, 3), (6, 6), (10**12, 6)])
def test_limits_of_the_settings_hold(
    tmp_path: Path, settings: Settings, maxrec: int | None, rows: int
) -> None:
    """A default where nothing was asked, and a limit whatever was."""
    many = make_store(settings, *(make_dataset("many", f"m{number}") for number in range(8)))
    document = ask(many, settings, maxrec=maxrec)
    many.close()
    assert document.count(b"<TR>") == rows
    assert document.count(b"OVERFLOW") == 1


def test_maxrec_0_describes_the_service(
    store: CatalogStore, settings: Settings, tmp_path: Path
) -> None:
    """All columns, no rows, and the values that there are (SIA 2.0 §2.1.18, §2.1.20)."""
    subtype = "lsst.visit_image"
    store.holdings.write([rows_of(visit("visit-2", dataproduct_subtype=subtype), "")])
    document = ask(store, settings, maxrec=0)
    assert document.count(b"<TR>") == 0
    assert document.count(b"<FIELD") == len(load_template("sia2.xml").fields)
    root = parse_xml(document)
    status = strings(root, "//v:INFO[@name='QUERY_STATUS']/@value")
    assert status == ["OVERFLOW"]
    inputs = input_params(descriptor(document, "@utype='adhoc:this'"))
    options = {name: strings(param, "v:VALUES/v:OPTION/@value") for name, param in inputs.items()}
    assert options["COLLECTION"] == ["cubes", "surveys", "visits"]
    assert options["INSTRUMENT"] == ["ErewhonCam"]
    assert options["FACILITY"] == ["Erewhon Observatory"]
    assert options["DPTYPE"] == ["cube", "image"]
    assert options["DPSUBTYPE"] == ["lsst.visit_image"]
    assert options["CALIB"] == ["2"]
    assert options["FORMAT"] == ["application/x-votable+xml;content=datalink"]


def test_maxrec_0_of_an_empty_catalog(tmp_path: Path) -> None:
    """Nothing to choose from is no trouble."""
    settings = make_settings(tmp_path)
    empty = make_store(settings)
    document = ask(empty, settings, maxrec=0)
    empty.close()
    assert_valid_votable(document)


def test_the_service_describes_itself_in_both_spellings(
    store: CatalogStore, settings: Settings
) -> None:
    """All 19 parameters, and DPSUBTYPE, once in each style (SIA 2.0 §3.1.2, DataLink 1.1 §4.4)."""
    document = ask(store, settings)
    new = descriptor(document, "@utype='adhoc:this'")
    old = descriptor(document, "@name='this'")
    assert old.get("utype") == "adhoc:service"
    assert new.get("name") != "this"
    expected = (
        "POS BAND TIME POL FOV SPATRES SPECRP EXPTIME TIMERES ID COLLECTION FACILITY"
        " INSTRUMENT DPTYPE DPSUBTYPE CALIB TARGET FORMAT MAXREC RESPONSEFORMAT"
    )
    for resource in (new, old):
        inputs = input_params(resource)
        assert " ".join(str(name) for name in inputs) == expected
        assert {param.get("value") for param in inputs.values()} == {""}
        assert stated(resource, "accessURL") == ["https://archive.example/vo/sia/query"]


def test_links_and_cutouts_are_described(store: CatalogStore, settings: Settings) -> None:
    """Generic descriptors whose ID is a column of the table (SIA 2.0 §3.1.1)."""
    document = ask(store, settings)
    for name, standard in (
        ("links", "ivo://ivoa.net/std/DataLink#links-1.1"),
        ("cutout-sync", "ivo://ivoa.net/std/SODA#sync-1.0"),
    ):
        resource = descriptor(document, f"@ID='{name}'")
        identifier = input_params(resource)["ID"]
        assert (identifier.get("ref"), identifier.get("value")) == ("obs_publisher_did", "")
        assert stated(resource, "standardID") == [standard]
    images = as_images(document)
    assert images.get_adhocservice_by_ivoid("ivo://ivoa.net/std/DataLink").ID == "links"
    assert images.get_adhocservice_by_id("cutout-sync").ID == "cutout-sync"


def test_free_parameters_have_no_value(store: CatalogStore, settings: Settings) -> None:
    """Pyvo would send any other value by itself, and stumbles over scalars without arraysize."""
    for param in elements(parse_xml(ask(store, settings)), "//v:GROUP/v:PARAM"):
        assert param.get("value") == ""
        assert param.get("arraysize")


def test_hostile_facts_change_no_structure(tmp_path: Path) -> None:
    """A header or a configuration may say anything."""
    settings = make_settings(tmp_path, title=HOSTILE_AS_READ, contact=HOSTILE_AS_READ)
    with_hostile = make_store(settings, hostile())
    for options in ({"echo": [("POS", HOSTILE)]}, {"maxrec": 0}):
        document = ask(with_hostile, settings, **options)
        assert_valid_votable(document)
    row = as_images(ask(with_hostile, settings))[0]
    with_hostile.close()
    assert row["obs_title"] == HOSTILE_AS_READ
    assert row["instrument_name"] == HOSTILE_AS_READ
    assert (row["s_ra"], row["s_resolution"]) == (math.inf, -math.inf)


class FailingStore:
    """A catalog whose disk fails after *rows* rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def find_rows(
        self, query: CatalogQuery, limit: int, columns: Sequence[str]
    ) -> Iterator[list[tuple[Value, ...]]]:
        """Some rows, then trouble."""
        del query, limit
        for _ in range(self._rows):
            yield [tuple(getattr(visit().obscore, name) for name in columns)]
        raise SourceUnavailableError("the catalog cannot be read", path="/secret/place")

    def is_ready(self, form: int) -> bool:
        """Nothing is."""
        del form
        return False

    def find_ready(
        self,
        query: CatalogQuery,
        limit: int,
        ready: Sequence[str],
        columns: Sequence[str],
        *,
        form: int,
    ) -> Iterator[tuple[list[tuple[object, ...]], dict[int, tuple[Value, ...]]]]:
        """Nobody asks."""
        raise AssertionError((query, limit, ready, columns, form))

    def distinct(self, column: DistinctColumn) -> tuple[str, ...]:
        """Nothing."""
        del column
        raise AssertionError


def test_a_search_that_fails_at_once_fails_before_the_first_byte(settings: Settings) -> None:
    """So that the edge can still answer with an error."""
    with pytest.raises(SourceUnavailableError):
        sia2.answer(CatalogQuery(), store=FailingStore(0), urls=URLS, settings=settings)


def test_a_search_that_fails_later_says_so_at_the_end(settings: Settings) -> None:
    """The document is whole, and names no path of the server."""
    document = ask(FailingStore(3), settings)
    assert_valid_votable(document)
    status = elements(parse_xml(document), "//v:INFO[@name='QUERY_STATUS']")[-1]
    assert status.get("value") == "ERROR"
    assert status.text == "TransientFault: the catalog cannot be read, request -"
    assert document.count(b"<TR>") == 3


def test_every_form_has_the_same_rows(store: CatalogStore, settings: Settings) -> None:
    """Cell by cell, whatever they are written as."""
    names = [field.name for field in load_template("sia2.xml").fields]
    cells = [cell.text or "" for cell in parse_xml(ask(store, settings)).iter("{*}TD")]
    rows = [cells[at : at + len(names)] for at in range(0, len(cells), len(names))]
    assert len(rows) == 4
    for form, dialect in ((Delimited.CSV, "excel"), (Delimited.TSV, "excel-tab")):
        text = ask(store, settings, form=form).decode()
        assert list(csv.reader(io.StringIO(text, newline=""), dialect)) == [names, *rows]
    document = ask(store, settings, form=Serialization.BINARY2)
    assert_valid_votable(document)
    one, other = (
        read_votable(each).get_first_table().array for each in (document, ask(store, settings))
    )
    for name in names:
        for value, same in zip(one[name].filled(), other[name].filled(), strict=True):
            assert value == same or (value != value and same != same), name  # noqa: PLR0124 - NaN


def test_limits_hold_in_every_form(store: CatalogStore, settings: Settings) -> None:
    """Only a VOTable can say that there are more rows."""
    for form in Delimited:
        for maxrec in (0, 2):
            lines = ask(store, settings, form=form, maxrec=maxrec).splitlines()
            assert len(lines) == 1 + maxrec
    for maxrec in (0, 2):
        document = ask(store, settings, form=Serialization.BINARY2, maxrec=maxrec)
        assert_valid_votable(document)
        assert len(read_votable(document).get_first_table().array) == maxrec
        assert b"OVERFLOW" in document


@pytest.mark.parametrize("form", Delimited)
def test_a_text_table_that_fails_later_is_broken_off(settings: Settings, form: Delimited) -> None:
    """Lines that end early would look complete."""
    with pytest.raises(SourceUnavailableError):
        ask(FailingStore(3), settings, form=form)


def test_a_template_without_a_mandatory_column_is_refused() -> None:
    """The operator may take out columns, but not those."""
    kept = [one for one in load_template("sia2.xml").fields if one.name != "s_region"]
    with pytest.raises(ConfigurationError, match="s_region"):
        ObsCoreTable(kept, URLS)


def test_a_template_with_an_unknown_column_is_refused() -> None:
    """Nothing can be put into it."""
    odd = (*load_template("sia2.xml").fields, Field(name="odd", datatype="int"))
    with pytest.raises(ConfigurationError, match="odd"):
        ObsCoreTable(odd, URLS)
