"""What the services say of themselves."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from pyvo.io.vosi import parse_availability, parse_capabilities
from support.catalogs import HOSTILE, HOSTILE_AS_READ, URLS
from support.documents import (
    assert_valid_vosi,
    complaints_of_xsdvalidate,
    elements,
    parse_xml,
    strings,
)

from soda_service.discovery import vosi
from soda_service.discovery.urls import Service

if TYPE_CHECKING:
    from support.golden import Golden

    from soda_service.config import Settings

STD = "ivo://ivoa.net/std/"
VOSI = ["VOSI#capabilities", "VOSI#availability"]
PROTOCOLS = {
    Service.SIA: ["SIA#query-2.0"],
    Service.DATALINK: ["DataLink#links-1.1"],
    Service.SODA: ["SODA#sync-1.0", "DALI#examples"],
}
STANDARDS = {
    Service.WHOLE: [*VOSI, "SIA#query-2.0", "DataLink#links-1.1", "SODA#sync-1.0", "DALI#examples"],
    **{service: VOSI + own for service, own in PROTOCOLS.items()},
}

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

EXAMPLE = vosi.Example(
    id="circle",
    name="A circle",
    description="A small piece of the sky",
    capability="ivo://ivoa.net/std/SODA#sync-1.0",
    parameters=(("ID", "ivo://archive.example/visits?v"), ("CIRCLE", "150 2 0.01")),
    url="https://archive.example/vo/soda/sync?ID=v&CIRCLE=150+2+0.01",
)


@pytest.mark.parametrize("service", list(Service))
def test_capabilities_are_valid(service: Service) -> None:
    """Against the schemas of VOSI and VODataService."""
    assert_valid_vosi(vosi.capabilities(service, URLS), "capabilities")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b'use="base"', b'use="some"'),
        (b"vs:ParamHTTP", b"vs:ParamFTP"),
        (b"<capability ", b"<ability/><capability "),
        (b"/VOSICapabilities/v1.0", b"/VOSICapabilities/v0.9"),
        (b"vosi:capabilities", b"vosi:capability"),
    ],
)
def test_a_wrong_document_is_refused(right: bytes, wrong: bytes) -> None:
    """By every schema that a capability needs: else the tests above would say nothing."""
    document = vosi.capabilities(Service.WHOLE, URLS)
    assert right in document
    assert complaints_of_xsdvalidate(document.replace(right, wrong), "capabilities")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"01-02T", b"01-42T"),
        (b"vosi:upSince", b"vosi:since"),
        (b"/VOSIAvailability/", b"/VOSICapabilities/"),
    ],
)
def test_a_wrong_availability_is_refused(right: bytes, wrong: bytes) -> None:
    document = vosi.availability(is_available=True, up_since=STARTED)
    assert right in document
    assert complaints_of_xsdvalidate(document.replace(right, wrong), "availability")


def test_golden(golden: Golden, settings: Settings) -> None:
    """The documents as people see them."""
    golden.check("capabilities.xml", vosi.capabilities(Service.WHOLE, URLS))
    golden.check("availability.xml", vosi.availability(is_available=True, up_since=STARTED))
    golden.check("examples.xml", vosi.examples([EXAMPLE], urls=URLS, settings=settings))


@pytest.mark.parametrize("service", list(Service))
def test_capabilities_of_each_service(service: Service) -> None:
    """Those of the protocol and those of VOSI itself, as pyvo reads them."""
    found = parse_capabilities(io.BytesIO(vosi.capabilities(service, URLS)))
    assert [one.standardid for one in found] == [STD + name for name in STANDARDS[service]]


def test_addresses() -> None:
    """Full ones for documents; bases for what takes parameters, or pyvo sends them no token."""
    root = parse_xml(vosi.capabilities(Service.SIA, URLS))
    urls = elements(root, "//accessURL")
    assert [(one.text, one.get("use")) for one in urls] == [
        ("https://archive.example/vo/sia/capabilities", "full"),
        ("https://archive.example/vo/sia/availability", "full"),
        ("https://archive.example/vo/sia/query", "base"),
    ]
    root = parse_xml(vosi.capabilities(Service.WHOLE, URLS))
    for standard, version in (
        ("SIA#query-2.0", "2.0"),
        ("DataLink#links-1.1", "1.1"),
        ("SODA#sync-1.0", "1.0"),
    ):
        (interface,) = elements(root, f"capability[@standardID='{STD}{standard}']/interface")
        assert (interface.get("role"), interface.get("version")) == ("std", version)
        assert interface.get("{http://www.w3.org/2001/XMLSchema-instance}type") == "vs:ParamHTTP"
        assert strings(interface, "accessURL/@use") == ["base"]


def test_availability() -> None:
    """Since when, in UTC, as pyvo reads it."""
    document = vosi.availability(is_available=True, up_since=STARTED)
    seen = parse_availability(io.BytesIO(document))
    assert seen.available
    assert str(seen.upsince) == "2026-01-02T03:04:05Z"
    assert not seen.notes
    assert_valid_vosi(document, "availability")


def test_unavailability() -> None:
    """With a note for every reason, whatever is in it."""
    document = vosi.availability(
        is_available=False, up_since=STARTED, notes=["the catalog does not answer", HOSTILE]
    )
    assert not parse_availability(io.BytesIO(document)).available
    notes = elements(parse_xml(document), "a:note")
    assert [note.text for note in notes] == ["the catalog does not answer", HOSTILE_AS_READ]
    assert_valid_vosi(document, "availability")


def test_examples(settings: Settings) -> None:
    """Machines find name, capability and parameters (DALI 1.1 §2.3)."""
    other = vosi.Example(
        id="other",
        name=HOSTILE,
        description=HOSTILE,
        capability=EXAMPLE.capability,
        parameters=((HOSTILE, HOSTILE),),
        url="https://archive.example/",
    )
    root = parse_xml(vosi.examples([EXAMPLE, other], urls=URLS, settings=settings))
    vocabularies = strings(root, "//@vocab")
    assert vocabularies == ["http://www.ivoa.net/rdf/examples#"]
    found = elements(root, "//*[@vocab]//*[@typeof='example']")
    assert [one.get("id") for one in found] == ["circle", "other"]
    for one in found:
        assert one.get("resource") == f"#{one.get('id')}"
        assert len(elements(one, ".//*[@property='name']")) == 1
        assert strings(one, ".//*[@property='capability']/text()") == [EXAMPLE.capability]
    assert strings(found[0], ".//*[@property='key']/text()") == ["ID", "CIRCLE"]
    assert strings(found[0], ".//*[@property='value']/text()") == [
        "ivo://archive.example/visits?v",
        "150 2 0.01",
    ]
    pairs = elements(found[0], ".//*[@property='generic-parameter'][@typeof='keyval']")
    assert [len(elements(pair, "*[@property]")) for pair in pairs] == [2, 2]
    assert EXAMPLE.url in strings(found[0], ".//h:a/@href")
    assert strings(found[1], ".//*[@property='value']/text()") == [HOSTILE_AS_READ]


def test_examples_of_an_empty_archive(settings: Settings) -> None:
    """A page without examples is still one."""
    root = parse_xml(vosi.examples([], urls=URLS, settings=settings))
    assert elements(root, "//*[@typeof]") == []
