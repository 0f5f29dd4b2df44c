"""Answers of DataLink 1.1, as clients read them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pyvo.dal.adhoc import SodaQuery
from support.catalogs import (
    HOSTILE,
    HOSTILE_AS_READ,
    URLS,
    StoreResolver,
    allsky,
    cube,
    hostile,
    make_settings,
    make_store,
    unplaced,
    visit,
)
from support.documents import (
    as_links,
    assert_valid_votable,
    complaints_of_stilts,
    descriptor,
    elements,
    input_params,
    parse_xml,
    stated,
    strings,
)

from soda_service import __version__
from soda_service.discovery import datalink
from soda_service.errors import (
    CorruptFileError,
    SourceUnavailableError,
    UnknownDatasetError,
    UsageError,
    request_id,
)
from soda_service.votable.document import load_template

if TYPE_CHECKING:
    from pathlib import Path

    from support.golden import Golden

    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings

VISIT, CUBE, ALLSKY, UNPLACED = (
    one.publisher_did for one in (visit(), cube(), allsky(), unplaced())
)
UNKNOWN = "ivo://archive.example/nowhere?nothing"

COLUMNS = {
    "ID": ("char", None, "meta.id;meta.main"),
    "access_url": ("char", None, "meta.ref.url"),
    "service_def": ("char", None, "meta.ref"),
    "error_message": ("char", None, "meta.code.error"),
    "semantics": ("char", None, "meta.code"),
    "description": ("char", None, "meta.note"),
    "content_type": ("char", None, "meta.code.mime"),
    "content_length": ("long", "byte", "phys.size;meta.file"),
    "local_semantics": ("char", None, "meta.id.assoc"),
    "link_auth": ("char", None, "meta.code"),
    "link_authorized": ("boolean", None, "meta.code"),
}
"""DataLink 1.1 §3.2: type, unit and UCD."""


def ask(store: CatalogStore, settings: Settings, *identifiers: str, resolver: Any = None) -> bytes:
    """The whole answer."""
    return b"".join(
        datalink.answer(
            identifiers,
            resolver=resolver or StoreResolver(store),
            store=store,
            urls=URLS,
            settings=settings,
        )
    )


def rows(document: bytes) -> list[dict[str, str]]:
    """The rows by column; null is the empty text."""
    root = parse_xml(document)
    names = strings(root, "//v:FIELD/@name")
    return [
        {name: cell.text or "" for name, cell in zip(names, row, strict=True)}
        for row in elements(root, "//v:TR")
    ]


@pytest.mark.parametrize(
    "identifiers",
    [(), (VISIT,), (CUBE,), (ALLSKY,), (UNPLACED,), (UNKNOWN,), (VISIT, UNKNOWN, CUBE)],
    ids=["none", "visit", "cube", "allsky", "unplaced", "unknown", "several"],
)
def test_every_document_is_valid(
    store: CatalogStore, settings: Settings, tmp_path: Path, identifiers: tuple[str, ...]
) -> None:
    """Schema, astropy and both validators of STILTS have nothing against any answer."""
    document = ask(store, settings, *identifiers)
    assert_valid_votable(document)
    assert complaints_of_stilts("votlint", document, tmp_path) == []
    complaints = complaints_of_stilts("datalinklint", document, tmp_path)
    # The vocabulary has had #coderived since 2022; the list inside of STILTS 3.4 is older.
    assert [line for line in complaints if "'coderived'" not in line] == []


@pytest.mark.parametrize(
    ("name", "identifiers"),
    [("links-visit", (VISIT,)), ("links-cube", (CUBE,)), ("links-several", (VISIT, UNKNOWN))],
)
def test_golden(
    store: CatalogStore,
    settings: Settings,
    golden: Golden,
    name: str,
    identifiers: tuple[str, ...],
) -> None:
    """The documents as people see them."""
    document = ask(store, settings, *identifiers)
    golden.check(f"{name}.xml", document.replace(__version__.encode(), b"VERSION"))


def test_columns_are_those_of_datalink() -> None:
    """Names, types, units and UCDs."""
    fields = {field.name: field for field in load_template("datalink.xml").fields}
    for name, (datatype, unit, ucd) in COLUMNS.items():
        assert (fields[name].datatype, fields[name].unit, fields[name].ucd) == (datatype, unit, ucd)
        assert fields[name].arraysize == ("*" if datatype == "char" else None)
    assert fields.keys() - COLUMNS.keys() == {"content_qualifier", "cutout_detail"}


def test_the_results_name_their_standard(store: CatalogStore, settings: Settings) -> None:
    """In the results RESOURCE itself, with the status before the table (DataLink 1.1 §3.3.1)."""
    root = parse_xml(ask(store, settings, VISIT))
    infos = elements(root, "/v:VOTABLE/v:RESOURCE[@type='results']/v:INFO")
    assert [(one.get("name"), one.get("value")) for one in infos[:2]] == [
        ("QUERY_STATUS", "OK"),
        ("standardID", "ivo://ivoa.net/std/DataLink#links-1.1"),
    ]
    assert len(elements(root, "//v:RESOURCE")) == len(root)


def test_links_of_a_dataset(store: CatalogStore, settings: Settings) -> None:
    """The whole file first, then its cutouts, its parts, and other datasets."""
    links = rows(ask(store, settings, VISIT))
    assert [(link["semantics"], link["service_def"]) for link in links] == [
        ("#this", ""),
        ("#cutout", "cutout-sync"),
        ("#proc", "cutout-sync-maskedimage"),
        ("#proc", "cutout-sync-exposure"),
        ("#noise", ""),
        ("#coderived", ""),
    ]
    assert {link["ID"] for link in links} == {VISIT}
    assert {(link["link_auth"], link["link_authorized"]) for link in links} == {("false", "true")}
    for link in links:
        given = [link[name] for name in ("access_url", "service_def", "error_message")]
        assert sum(map(bool, given)) == 1
        assert link["description"]


def test_the_whole_file(store: CatalogStore, settings: Settings) -> None:
    """With its media type, and its size in bytes where ObsCore has kilobytes."""
    this = rows(ask(store, settings, VISIT))[0]
    assert this["access_url"] == URLS.file(visit())
    assert (this["content_type"], this["content_length"]) == ("application/fits", "2000160")
    assert this["content_qualifier"] == "#image"
    this = rows(ask(store, settings, CUBE))[0]
    assert (this["content_length"], this["content_qualifier"]) == ("5000000000", "#cube")
    assert rows(ask(store, settings, ALLSKY))[0]["content_type"] == "application/gzip"


def test_parts_of_the_file(store: CatalogStore, settings: Settings) -> None:
    """A rule with a detail links to those HDUs, whole."""
    noise = rows(ask(store, settings, VISIT))[4]
    assert noise["access_url"] == URLS.sync(VISIT, detail="MaskedImage")
    assert noise["content_type"] == "application/fits"


def test_other_datasets(store: CatalogStore, settings: Settings) -> None:
    """Their links, with the media type that says so to the letter (DataLink 1.1 §3.2.7)."""
    other = rows(ask(store, settings, VISIT))[5]
    assert other["access_url"] == URLS.links(CUBE)
    assert other["content_type"] == "application/x-votable+xml;content=datalink"


def test_pyvo_finds_the_services(store: CatalogStore, settings: Settings) -> None:
    """By the XML IDs that notebooks name, the plain one first."""
    links = as_links(ask(store, settings, VISIT))
    assert links.get_adhocservice_by_ivoid("ivo://ivoa.net/std/SODA#sync-1").ID == "cutout-sync"
    for name, detail in (
        ("cutout-sync", "Image"),
        ("cutout-sync-maskedimage", "MaskedImage"),
        ("cutout-sync-exposure", "Exposure"),
    ):
        query = SodaQuery.from_resource(links, links.get_adhocservice_by_id(name))
        assert query.baseurl == "https://archive.example/vo/soda/sync"
        assert dict(query) == {"ID": VISIT, "CUTOUTDETAIL": detail}


@pytest.mark.parametrize("identifier", [VISIT, CUBE, ALLSKY, UNPLACED])
def test_pyvo_sends_what_it_was_told(
    store: CatalogStore, settings: Settings, identifier: str
) -> None:
    """And nothing that the descriptor merely describes."""
    links = as_links(ask(store, settings, identifier))
    service = links.get_adhocservice_by_id("cutout-sync")
    query = SodaQuery.from_resource(links, service)
    assert query["ID"] == identifier
    assert set(query) <= {"ID", "CUTOUTDETAIL"}
    if identifier != UNPLACED:
        query = SodaQuery.from_resource(links, service, circle=(150.0, 2.0, 0.01))
        assert query["CIRCLE"] == "150 2 0.01"
        query.polygon = (150.0, 2.0, 150.1, 2.0, 150.1, 2.1, 150.0, 2.1)
        assert query["POLYGON"] == "150.0 2.0 150.1 2.0 150.1 2.1 150.0 2.1"


def test_a_descriptor_is_that_of_soda(store: CatalogStore, settings: Settings) -> None:
    """Standard, URL without a query, media type, and names that are unique."""
    document = ask(store, settings, VISIT)
    for name in ("cutout-sync", "cutout-sync-maskedimage", "cutout-sync-exposure"):
        resource = descriptor(document, f"@ID='{name}'")
        assert (resource.get("type"), resource.get("utype")) == ("meta", "adhoc:service")
        assert resource.get("name") == name
        assert stated(resource, "standardID") == ["ivo://ivoa.net/std/SODA#sync-1.0"]
        assert stated(resource, "accessURL") == ["https://archive.example/vo/soda/sync"]
        assert stated(resource, "contentType") == ["application/fits"]
        assert elements(resource, "v:DESCRIPTION")[0].text


SODA = {
    "ID": ("char", "*", None, None, "meta.id;meta.dataset"),
    "CIRCLE": ("double", "3", "deg", "circle", "pos.outline;obs"),
    "POLYGON": ("double", "*", "deg", "polygon", "pos.outline;obs"),
    "POS": ("char", "*", None, None, "pos.outline;obs"),
    "BAND": ("double", "2", "m", "interval", "em.wl;stat.interval"),
    "TIME": ("double", "2", "d", "interval", "time.interval;obs.exposure"),
    "POL": ("char", "*", None, None, "meta.code;phys.polarization"),
}
"""SODA 1.0 §3: datatype, arraysize, unit, xtype and UCD."""


def test_parameters_are_those_of_soda(store: CatalogStore, settings: Settings) -> None:
    """Clients tell them by name, unit and UCD (SODA 1.0 §3.5)."""
    inputs = input_params(descriptor(ask(store, settings, CUBE), "@ID='cutout-sync'"))
    for name, expected in SODA.items():
        param = inputs[name]
        assert expected == tuple(
            param.get(attribute) for attribute in ("datatype", "arraysize", "unit", "xtype", "ucd")
        )
        assert elements(param, "v:DESCRIPTION")
        assert param.get("value") == (CUBE if name == "ID" else "")
        assert param.get("ref") is None


def limits(document: bytes, service: str = "cutout-sync") -> dict[str, list[str]]:
    """The values in VALUES of each input PARAM."""
    inputs = input_params(descriptor(document, f"@ID='{service}'"))
    return {name: strings(param, "v:VALUES/*/@value") for name, param in inputs.items()}


def test_limits_of_a_cube(store: CatalogStore, settings: Settings) -> None:
    """Its own circle, polygon, wavelengths, times and states; a region has MAX only."""
    assert limits(ask(store, settings, CUBE)) == {
        "ID": [],
        "CIRCLE": ["0.0 -27.5 0.6687"],
        "POLYGON": ["0.5 -28.0 359.5 -28.0 359.5 -27.0 0.5 -27.0"],
        "POS": [],
        "BOX": [],
        "MOC": [],
        "STAMP": [],
        "PIXELS": [],
        "BAND": ["0.2098", "0.2103"],
        "TIME": ["60000.0", "60000.5"],
        "POL": ["I", "Q", "U"],
        "HDU": [],
        "EDGE": ["trim", "pad", "refuse"],
        "FILL": [],
        "MASK": ["false", "true"],
        "HEADERONLY": ["false", "true"],
        "CHECKSUM": ["false", "true"],
        "PROOF": ["false", "true"],
        "COMPRESS": ["none", "fz", "gz"],
    }


def test_only_what_is_useful_is_offered(store: CatalogStore, settings: Settings) -> None:
    """An image has no part of a band, and one that is nowhere no part of the sky."""
    assert list(limits(ask(store, settings, VISIT))) == [
        "ID", "CIRCLE", "POLYGON", "POS", "BOX", "MOC", "STAMP", "PIXELS", "CUTOUTDETAIL", "HDU",
        "EDGE", "FILL", "MASK", "HEADERONLY", "CHECKSUM", "PROOF", "COMPRESS",
    ]  # fmt: skip
    assert list(limits(ask(store, settings, UNPLACED))) == [
        "ID", "PIXELS", "HDU", "EDGE", "FILL", "HEADERONLY", "CHECKSUM", "PROOF", "COMPRESS",
    ]  # fmt: skip


def test_no_polygon_holds_several_pieces(store: CatalogStore, settings: Settings) -> None:
    """Then the circle alone says where there are data."""
    seen = limits(ask(store, settings, ALLSKY))
    assert (seen["CIRCLE"], seen["POLYGON"]) == (["0.0 0.0 180.0"], [])


@pytest.mark.parametrize("identifier", [VISIT, CUBE, ALLSKY])
def test_the_example_is_a_cutout_inside_the_footprint(
    store: CatalogStore, settings: Settings, identifier: str
) -> None:
    """Of this dataset and of this detail."""
    (example,) = stated(
        descriptor(ask(store, settings, identifier), "@ID='cutout-sync'"), "exampleURL"
    )
    assert example.startswith("https://archive.example/vo/soda/sync?ID=ivo")
    assert ("CUTOUTDETAIL=Image" in example) == (identifier == VISIT)


def test_several_datasets_share_descriptors(store: CatalogStore, settings: Settings) -> None:
    """The ID is that of the row; a service means the same as in a document of one dataset."""
    document = ask(store, settings, VISIT, CUBE)
    for name, detail in (
        ("cutout-sync-maskedimage", "MaskedImage"),
        ("cutout-sync-exposure", "Exposure"),
    ):
        inputs = input_params(descriptor(document, f"@ID='{name}'"))
        assert (inputs["ID"].get("ref"), inputs["ID"].get("value")) == ("ID", "")
        assert inputs["CUTOUTDETAIL"].get("value") == detail
        assert inputs.keys() >= SODA.keys()
    # The cube has no details: what is fixed for the visit then stands in the rows.
    inputs = input_params(descriptor(document, "@ID='cutout-sync'"))
    for name, column in (("ID", "ID"), ("CUTOUTDETAIL", "cutout_detail")):
        assert (inputs[name].get("ref"), inputs[name].get("value")) == (column, "")
    assert {(link["ID"], link["cutout_detail"]) for link in rows(document)} == {
        (VISIT, "Image"),
        (CUBE, ""),
    }
    assert limits(document)["CIRCLE"] == []


def test_several_datasets_with_the_same_details(tmp_path: Path, settings: Settings) -> None:
    """What they share stays fixed."""
    settings = make_settings(tmp_path)
    two = make_store(settings, visit("a"), visit("b"))
    document = ask(two, settings, *two.identifiers())
    two.close()
    inputs = input_params(descriptor(document, "@ID='cutout-sync'"))
    assert inputs["CUTOUTDETAIL"].get("value") == "Image"
    cutouts = [link for link in rows(document) if link["semantics"] == "#cutout"]
    assert [link["service_def"] for link in cutouts] == ["cutout-sync"] * 2


def test_several_datasets_without_details(store: CatalogStore, settings: Settings) -> None:
    """A parameter that none of them knows is not offered."""
    assert "CUTOUTDETAIL" not in limits(ask(store, settings, CUBE, ALLSKY))


@pytest.mark.parametrize("identifiers", [(VISIT,), (VISIT, CUBE, ALLSKY)])
def test_services_and_rows_fit_together(
    store: CatalogStore, settings: Settings, identifiers: tuple[str, ...]
) -> None:
    """Every service_def is there, every service is used, and one row of each ID is #cutout."""
    document = ask(store, settings, *identifiers)
    links = rows(document)
    services = strings(parse_xml(document), "/v:VOTABLE/v:RESOURCE/@ID")
    assert {link["service_def"] for link in links} - {""} == set(services)
    for identifier in identifiers:
        of_one = [link["semantics"] for link in links if link["ID"] == identifier]
        assert of_one.count("#cutout") == 1
        assert sum("cutout" in semantics for semantics in of_one) == 1
    order = [link["ID"] for link in links]
    assert order == sorted(order, key=identifiers.index), "rows of an ID are contiguous"


def test_pyvo_takes_several_apart(store: CatalogStore, settings: Settings) -> None:
    """As it does with the answer to the IDs of a whole search."""
    links = as_links(ask(store, settings, VISIT, CUBE))
    service = links.get_adhocservice_by_id("cutout-sync")
    for identifier, detail in ((CUBE, ""), (VISIT, "Image")):
        of_one = [link for link in links if link["ID"] == identifier]
        query = SodaQuery.from_resource(of_one, service, circle=(0.0, -27.5, 0.01))
        assert query["CIRCLE"] == "0 -27.5 0.01"
        # Repeated letter for letter, which counts once.
        assert set(query["ID"]) == {identifier}
        assert set(query["CUTOUTDETAIL"]) == {detail}


def test_no_identifier_gives_an_empty_table(store: CatalogStore, settings: Settings) -> None:
    """With the description of the service in both spellings (DataLink 1.1 §2.1.1, §4.4)."""
    document = ask(store, settings)
    assert rows(document) == []
    assert b'value="OK"' in document
    for condition in ("@utype='adhoc:this'", "@utype='adhoc:service' and @name='this'"):
        this = descriptor(document, condition)
        assert stated(this, "standardID") == ["ivo://ivoa.net/std/DataLink#links-1.1"]
        assert stated(this, "accessURL") == ["https://archive.example/vo/datalink/links"]
        assert list(input_params(this)) == ["ID", "RESPONSEFORMAT"]


def test_identical_identifiers_count_once(store: CatalogStore, settings: Settings) -> None:
    """And leave a document of one dataset."""
    assert ask(store, settings, VISIT, VISIT) == ask(store, settings, VISIT)


def test_too_many_identifiers_overflow_between_datasets(
    store: CatalogStore, settings: Settings
) -> None:
    """The first ones are answered whole (DataLink 1.1 §2.1.1)."""
    document = ask(store, settings, VISIT, CUBE, ALLSKY, UNPLACED)
    assert list(dict.fromkeys(link["ID"] for link in rows(document))) == [VISIT, CUBE, ALLSKY]
    status = strings(parse_xml(document), "//v:INFO[@name='QUERY_STATUS']/@value")
    assert status == ["OVERFLOW"]
    assert_valid_votable(document)
    assert b"OVERFLOW" not in ask(store, settings, VISIT, CUBE, ALLSKY, CUBE)


def test_links_that_were_cut_off_overflow(
    store: CatalogStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that names more datasets than are told of, and a document of too many rows."""
    related = type(store).related
    monkeypatch.setattr(
        type(store), "related",
        lambda store, dataset: replace(related(store, dataset), is_complete=False),
    )  # fmt: skip
    document = ask(store, settings, CUBE)
    assert b'value="OVERFLOW"' in document
    assert_valid_votable(document)
    monkeypatch.undo()
    whole = ask(store, settings, VISIT, CUBE)
    assert b'value="OVERFLOW"' not in whole
    monkeypatch.setattr(datalink, "_MOST_ROWS", 1)
    cut_off = ask(store, settings, VISIT, CUBE)
    assert b'value="OVERFLOW"' in cut_off
    assert rows(cut_off) == [link for link in rows(whole) if link["ID"] == VISIT]


def test_an_unknown_identifier_is_a_row(store: CatalogStore, settings: Settings) -> None:
    """The others are answered all the same (DataLink 1.1 §3.2.4)."""
    links = rows(ask(store, settings, UNKNOWN, CUBE))
    assert links[0] == {
        **dict.fromkeys(links[0], ""),
        "ID": UNKNOWN,
        "semantics": "#this",
        "error_message": f"NotFoundFault: no such dataset: {UNKNOWN!r}",
    }
    assert [link["semantics"] for link in links[1:]] == ["#this", "#cutout"]


class FailingResolver:
    """Meets trouble with everything."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def resolve(self, identifier: str) -> Dataset:
        """Never works."""
        del identifier
        raise self._error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UnknownDatasetError("x", "its file is gone"), "NotFoundFault: its file is gone: 'x'"),
        (UsageError("that is no identifier"), "UsageFault: that is no identifier"),
        (
            SourceUnavailableError("the disk does not answer", path="/secret"),
            "TransientFault: the disk does not answer, request my-id",
        ),
        (
            CorruptFileError("HDU 1 is truncated", path="/secret"),
            "FatalFault: HDU 1 is truncated, request my-id",
        ),
        (ZeroDivisionError("/secret/place"), "FatalFault: internal error, request my-id"),
    ],
)
def test_faults(
    store: CatalogStore,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    message: str,
) -> None:
    """Each trouble has its label; paths and our own bugs are for the log alone."""
    token = request_id.set("my-id")
    with caplog.at_level(logging.WARNING):
        document = ask(store, settings, VISIT, resolver=FailingResolver(error))
    request_id.reset(token)
    assert_valid_votable(document)
    (link,) = rows(document)
    assert (link["ID"], link["semantics"], link["error_message"]) == (VISIT, "#this", message)
    assert b"secret" not in document
    is_ours = not isinstance(error, UnknownDatasetError | UsageError)
    assert ("secret" in caplog.text) == is_ours


def test_identifiers_come_back_as_they_were_sent(store: CatalogStore, settings: Settings) -> None:
    """In their own case, and whatever is in them."""
    assert {link["ID"] for link in rows(ask(store, settings, CUBE.upper()))} == {CUBE.upper()}
    document = ask(store, settings, HOSTILE)
    assert_valid_votable(document)
    assert rows(document)[0]["ID"] == HOSTILE_AS_READ


def test_hostile_facts_change_no_structure(tmp_path: Path) -> None:
    """A header or a configuration may say anything."""
    settings = make_settings(tmp_path, title=HOSTILE_AS_READ)
    with_hostile = make_store(settings, hostile())
    for identifiers in ((hostile().publisher_did,), (hostile().publisher_did, HOSTILE)):
        document = ask(with_hostile, settings, *identifiers)
        assert_valid_votable(document)
        assert HOSTILE_AS_READ in rows(document)[0]["description"]
    with_hostile.close()


def test_details_whose_names_differ_in_case_share_a_descriptor(
    store: CatalogStore, settings: Settings
) -> None:
    """An XML ID stands once in a document, whatever a configuration says."""
    plain, one, other = visit().details
    odd = replace(
        visit(), details=(plain, replace(one, name="Other"), replace(other, name="OTHER"))
    )

    class OddResolver:
        def resolve(self, identifier: str) -> Dataset:
            del identifier
            return odd

    for identifiers in ((VISIT,), (VISIT, CUBE)):
        assert_valid_votable(ask(store, settings, *identifiers, resolver=OddResolver()))
