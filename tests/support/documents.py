"""What outsiders say of a document: schemas, astropy, pyvo and STILTS."""

from __future__ import annotations

import importlib.util
import io
import re
import subprocess
import sys
import warnings
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from astropy.io.votable import parse
from astropy.io.votable.exceptions import W55
from lxml import etree
from pyvo.dal.adhoc import DatalinkResults
from pyvo.dal.sia2 import SIA2Results
from support.programs import require_program

if TYPE_CHECKING:
    from types import ModuleType

    from astropy.io.votable.tree import VOTableFile
    from lxml.etree import _Element as Element

_NAMESPACES = {
    "v": "http://www.ivoa.net/xml/VOTable/v1.3",
    "h": "http://www.w3.org/1999/xhtml",
    "a": "http://www.ivoa.net/xml/VOSIAvailability/v1.0",
}

_SCHEMAS = Path(__file__).resolve().parents[3] / "shared" / "specs" / "xsd" / "voschemas.py"
"""Loader of more XSDs of VOSI, where a folder with them lies beside the repository."""


def parse_xml(document: bytes) -> Element:
    """The root of a document, which must be ASCII whatever it declares."""
    assert document.isascii(), "a document must be ASCII"
    return etree.fromstring(document)


def elements(root: Element, path: str) -> list[Element]:
    """The elements at an XPath; `v:` is VOTable's namespace, `h:` that of XHTML."""
    return cast("list[Element]", root.xpath(path, namespaces=_NAMESPACES))


def strings(root: Element, path: str) -> list[str]:
    """The attributes or texts at an XPath."""
    return [str(text) for text in cast("list[str]", root.xpath(path, namespaces=_NAMESPACES))]


def descriptor(document: bytes, condition: str) -> Element:
    """The one top-level RESOURCE that fulfils an XPath condition."""
    (found,) = elements(parse_xml(document), f"/v:VOTABLE/v:RESOURCE[{condition}]")
    return found


def stated(resource: Element, name: str) -> list[str]:
    """The values of the PARAMs *name* of a service descriptor, inputs left out."""
    return strings(resource, f"v:PARAM[@name='{name}']/@value")


def input_params(resource: Element) -> dict[str, Element]:
    """The input PARAMs of a service descriptor by name, of which there are no two alike."""
    found = elements(resource, "v:GROUP[@name='inputParams']/v:PARAM")
    by_name = {str(param.get("name")): param for param in found}
    assert len(by_name) == len(found)
    return by_name


def assert_valid_votable(document: bytes) -> None:
    """Passes the XSD of VOTable 1.4, every ref resolves, and astropy reads it without a word."""
    root = parse_xml(document)
    votable_schema().assertValid(root)
    assert root.get("version") == "1.4"
    ids = [element.get("ID") for element in root.iter(etree.Element) if element.get("ID")]
    assert len(ids) == len(set(ids)), f"an XML ID stands twice in {ids}"
    for element in root.iter(etree.Element):
        if element.get("ref"):
            assert element.get("ref") in ids, f"{element.get('name')} refers to nothing"
    read_votable(document)


@cache
def votable_schema() -> etree.XMLSchema:
    """The schema that astropy ships."""
    folder = resources.files("astropy.io.votable") / "data"
    return etree.XMLSchema(etree.parse(str(folder / "VOTable.v1.4.xsd")))


def read_votable(document: bytes) -> VOTableFile:
    """As astropy reads it; warnings are errors, but for one.

    W55 says that a column of type char holds a letter beyond ASCII. It is read all the same,
    and clients of ObsCore and DataLink expect char, not unicodeChar.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", W55)
        return parse(io.BytesIO(document), verify="exception")


def as_links(document: bytes) -> DatalinkResults:
    """As pyvo reads an answer of DataLink."""
    return DatalinkResults(read_votable(document))


def as_images(document: bytes) -> SIA2Results:
    """As pyvo reads an answer of SIA 2.0."""
    return SIA2Results(read_votable(document), url="https://archive.example/")


def complaints_of_stilts(
    program: Literal["votlint", "datalinklint"], document: bytes, folder: Path
) -> list[str]:
    """The lines in which STILTS finds fault with *document*; both its tools exit 0 on errors."""
    require_program("stilts")
    file = folder / f"{program}.vot"
    file.write_bytes(document)
    options = ["ucd=true", "unit=true"] if program == "votlint" else []
    result = subprocess.run(
        ["stilts", program, f"votable={file}", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    text = result.stdout + result.stderr
    return [line for line in text.splitlines() if re.match(r"(ERROR|WARNING|W-|E-|F-)", line)]


def assert_valid_vosi(document: bytes, schema: Literal["capabilities", "availability"]) -> None:
    """Passes the XSDs of VOSI that STILTS carries, and those beside the repository if any are."""
    schemas = _vosi_schemas()
    if schemas is not None:
        for flavour in ("pkg", "ivoa"):
            schemas.schema(schema, flavour).assertValid(parse_xml(document))
    assert complaints_of_xsdvalidate(document, schema) == []


def complaints_of_xsdvalidate(
    document: bytes, schema: Literal["capabilities", "availability"]
) -> list[str]:
    """What STILTS finds wrong with a document of VOSI, by schemas that it carries itself.

    Those of VOSI, VOResource and VODataService; whatever it would fetch of others counts as
    wrong, because it meets a proxy that is none.
    """
    root = f"{{http://www.ivoa.net/xml/VOSI{schema.capitalize()}/v1.0}}{schema}"
    nowhere = [
        f"-D{scheme}.proxy{key}"
        for scheme in ("http", "https")
        for key in ("Host=127.0.0.1", "Port=9")
    ]
    result = subprocess.run(
        [require_program("stilts"), *nowhere, "xsdvalidate",
         "uselocals=true", f"topel={root}", "doc=-"],
        input=document, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    lines = (result.stdout + result.stderr).decode().splitlines()
    wrong = [line for line in lines if re.match("(ERROR|WARNING|FATAL|Error)", line)]
    assert (result.returncode == 0) == (not wrong), lines
    return wrong


@cache
def _vosi_schemas() -> ModuleType | None:
    if not _SCHEMAS.exists():
        return None
    spec = importlib.util.spec_from_file_location("voschemas", _SCHEMAS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["voschemas"] = module
    spec.loader.exec_module(module)
    return module
