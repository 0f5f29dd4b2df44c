"""What every document of discovery has in common: who speaks, and how to ask again."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Final

from soda_service import __version__
from soda_service.errors import ConfigurationError
from soda_service.votable.document import votable
from soda_service.votable.table import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lxml.etree import _Element as Element

    from soda_service.config import Settings
    from soda_service.discovery.urls import Urls
    from soda_service.votable.document import Template
    from soda_service.votable.table import Field

_INDENT: Final = "\n  "
_INPUT_PARAMS: Final = f"{votable('GROUP')}[@name='inputParams']/{votable('PARAM')}"


def framed(template: Template, settings: Settings, urls: Urls) -> Element:
    """*template* filled with what does not depend on the question, described in both ways."""
    root = template.fill(
        {
            "title": settings.title,
            "contact": settings.contact,
            "publisher": f"ivo://{settings.authority}",
            "software": f"soda-service/{__version__}",
            "query_endpoint": urls.query_endpoint,
            "links_endpoint": urls.links_endpoint,
            "sync_endpoint": urls.sync_endpoint,
        }
    )
    for info in list(root.iter(votable("INFO"))):
        if not info.get("value"):
            remove(info)
    this = self_description(root)
    older = _older_self_description(this)
    this.addnext(older)
    this.tail = _INDENT
    older.tail = "\n"
    return root


def self_description(root: Element) -> Element:
    """The RESOURCE by which the service describes itself (DataLink 1.1 §4.4)."""
    found = root.find(f"{votable('RESOURCE')}[@utype='adhoc:this']")
    if found is None:
        raise ConfigurationError("a template lacks the RESOURCE with utype adhoc:this")
    return found


def add_descriptor(root: Element, descriptor: Element) -> None:
    """Put *descriptor* into the document *root*, after those that are there already."""
    self_description(root).addprevious(descriptor)
    descriptor.tail = _INDENT


def input_params(resource: Element) -> dict[str, Element]:
    """The input PARAMs of a service descriptor by UCD, which tells what each of them selects."""
    return {param.get("ucd", ""): param for param in reversed(resource.findall(_INPUT_PARAMS))}


def param_of(resource: Element, field: Field) -> Element | None:
    """The input PARAM that selects by the column *field*: it has its utype, or else its UCD."""
    params = resource.findall(_INPUT_PARAMS)
    same = [param for param in params if param.get("utype") == (field.utype or "")]
    alike = [param for param in params if param.get("ucd") == (field.ucd or "")]
    return next(iter(same + [param for param in alike if param.get("utype") is None]), None)


def remove(element: Element) -> None:
    """Take *element* out of its document; what follows moves up to where it stood."""
    parent, before = element.getparent(), element.getprevious()
    assert parent is not None
    if before is not None and element.getnext() is None:
        before.tail = element.tail
    parent.remove(element)


def add_options(param: Element, options: Iterable[str]) -> None:
    """Say that the value of *param* is one of *options* (VOTable 1.4 §4.7)."""
    values = param.find(votable("VALUES"))
    for option in options:
        if values is None:
            values = param.makeelement(votable("VALUES"))
            param.append(values)
        values.append(values.makeelement(votable("OPTION"), {"value": clean(option)}))


def _older_self_description(resource: Element) -> Element:
    """The spelling of DataLink 1.0 and SIA 2.0 §3.1.2, which may stand beside the other."""
    older = deepcopy(resource)
    older.set("utype", "adhoc:service")
    older.set("name", "this")
    return older
