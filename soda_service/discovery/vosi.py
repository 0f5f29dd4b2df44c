"""VOSI 1.1 documents, and the examples of DALI 1.1 §2.3: what a service says of itself."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.discovery.urls import Service
from soda_service.errors import ConfigurationError
from soda_service.votable.document import load_template, render

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from lxml.etree import _Element as Element

    from soda_service.config import Settings
    from soda_service.discovery.urls import Urls

MEDIA_TYPE: Final = "text/xml"
EXAMPLES_MEDIA_TYPE: Final = "application/xhtml+xml"

_VOSI: Final = frozenset(
    {"ivo://ivoa.net/std/VOSI#capabilities", "ivo://ivoa.net/std/VOSI#availability"}
)
_STANDARDS: Final = {
    Service.SIA: frozenset({"ivo://ivoa.net/std/SIA#query-2.0"}),
    Service.DATALINK: frozenset({"ivo://ivoa.net/std/DataLink#links-1.1"}),
    Service.SODA: frozenset(
        {"ivo://ivoa.net/std/SODA#sync-1.0", "ivo://ivoa.net/std/DALI#examples"}
    ),
}
"""The capabilities that a protocol's own document has beside those of VOSI."""

_NO_EXAMPLES: Final = "There are none: no dataset that was tried can be cut by a position."

_XHTML: Final = "{http://www.w3.org/1999/xhtml}"
_AVAILABILITY: Final = "{http://www.ivoa.net/xml/VOSIAvailability/v1.0}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request that works."""

    id: str
    """An XML name, unique in the document."""
    name: str
    """A short title."""
    description: str
    capability: str
    """standardID of the capability to be called."""
    parameters: tuple[tuple[str, str], ...]
    url: str


def capabilities(service: Service, urls: Urls) -> bytes:
    """What *service* can do (VOSI 1.1 §3.1)."""
    root = load_template("capabilities.xml").fill(
        {
            "capabilities": urls.capabilities(service),
            "availability": urls.availability(service),
            "query_endpoint": urls.query_endpoint,
            "links_endpoint": urls.links_endpoint,
            "sync_endpoint": urls.sync_endpoint,
            "examples": urls.examples,
        }
    )
    if service is not Service.WHOLE:
        for capability in list(root):
            if capability.get("standardID") not in _VOSI | _STANDARDS[service]:
                root.remove(capability)
    return render(root)


def availability(*, is_available: bool, up_since: datetime, notes: Sequence[str] = ()) -> bytes:
    """Whether a service answers, and since when it runs (VOSI 1.1 §3.2).

    *up_since* is in UTC; *notes* are for people.
    """
    template = load_template("availability.xml")
    root = template.copy()
    _only(root, f"{_AVAILABILITY}available").text = "true" if is_available else "false"
    _only(root, f"{_AVAILABILITY}upSince").text = up_since.strftime("%Y-%m-%dT%H:%M:%SZ")
    pattern = _only(root, f"{_AVAILABILITY}note")
    root.remove(pattern)
    for note in notes:
        element = deepcopy(pattern)
        template.fill_piece(element, {"note": note})
        root.append(element)
    return render(root)


def examples(examples: Sequence[Example], *, urls: Urls, settings: Settings) -> bytes:
    """A page of *examples* for people and for machines (DALI 1.1 §2.3)."""
    template = load_template("examples.xml")
    root = template.copy()
    pattern = _only(root, f".//{_XHTML}*[@typeof='example']")
    place = pattern.getparent()
    assert place is not None
    number = place.index(pattern)
    place.remove(pattern)
    note = "Each of them can be tried as it stands." if examples else _NO_EXAMPLES
    template.fill_piece(root, {"title": settings.title, "root": urls.root, "note": note})
    for position, example in enumerate(examples, start=number):
        element = deepcopy(pattern)
        _fill_example(element, example)
        place.insert(position, element)
    return render(root)


def _fill_example(element: Element, example: Example) -> None:
    template = load_template("examples.xml")
    pattern = _only(element, f".//{_XHTML}*[@typeof='keyval']")
    place = pattern.getparent()
    assert place is not None
    place.remove(pattern)
    template.fill_piece(
        element,
        {
            "id": example.id,
            "name": example.name,
            "description": example.description,
            "capability": example.capability,
            "url": example.url,
        },
    )
    for key, value in example.parameters:
        parameter = deepcopy(pattern)
        template.fill_piece(parameter, {"key": key, "value": value})
        place.append(parameter)


def _only(root: Element, path: str) -> Element:
    found = root.find(path)
    if found is None:
        raise ConfigurationError(f"a template lacks its {path.rpartition('}')[2]}")
    return found
