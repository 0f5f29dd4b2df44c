"""Documents: templates of `votable_templates/`, filled and with rows streamed in.

A template is a complete, valid XML document in which `{name}` stands, in text and in
attributes, for what is not known before a request. It is parsed once; filling works on
the parsed tree, so that no value can break out of the place it was put in. Comments are
for the operator and are left out of what is sent.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from lxml import etree

from soda_service.config import resource_path
from soda_service.errors import ConfigurationError
from soda_service.votable.binary2 import binary2_pieces
from soda_service.votable.table import Field, LimitedBlocks, clean, gather
from soda_service.votable.tabledata import tabledata_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from lxml.etree import _Element as Element

    from soda_service.votable.table import Block

NAMESPACE: Final = "http://www.ivoa.net/xml/VOTable/v1.3"
"""Of VOTable 1.3, 1.4 and 1.5 alike."""

MEDIA_TYPE: Final = "application/x-votable+xml"


class Status(StrEnum):
    """Values of QUERY_STATUS (DALI 1.1 §4.4)."""

    OK = "OK"
    OVERFLOW = "OVERFLOW"
    ERROR = "ERROR"


class Serialization(StrEnum):
    """How the rows of a document are written (VOTable 1.4 §5); the values are its own names."""

    TABLEDATA = "TABLEDATA"
    BINARY2 = "BINARY2"


class Template:
    """One file of `votable_templates/`, parsed."""

    def __init__(self, name: str, xml: bytes) -> None:
        self.name = name
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
        try:
            self._root = etree.fromstring(xml, parser)
        except etree.XMLSyntaxError as error:
            raise ConfigurationError(f"template {name} is not XML: {error}") from None
        self._slots = tuple(_slots_of(self._root))
        self.fields = tuple(_field_of(field) for field in self._root.iter(votable("FIELD")))

    def copy(self) -> Element:
        """The document with its placeholders."""
        return deepcopy(self._root)

    def fill(self, values: Mapping[str, str]) -> Element:
        """A copy with every `{name}` replaced; names that the template lacks are ignored.

        Raises ConfigurationError where the template names what *values* lack.
        """
        root = deepcopy(self._root)
        elements = tuple(root.iter(etree.Element))
        for slot in self._slots:
            slot.fill(elements[slot.element], values, self.name)
        return root

    def fill_piece(self, piece: Element, values: Mapping[str, str]) -> None:
        """The same in place, for an element of a copy: one that stands for many, say."""
        elements = tuple(piece.iter(etree.Element))
        for slot in _slots_of(piece):
            slot.fill(elements[slot.element], values, self.name)


@cache
def load_template(name: str) -> Template:
    """The template in the file *name*; read once in the life of a process.

    Raises ConfigurationError when it is missing or not well-formed.
    """
    path = resource_path("votable_templates") / name
    try:
        return Template(name, path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read template {path}: {error.strerror}") from None


def render(root: Element) -> bytes:
    """The whole document *root* as it stands, in ASCII."""
    return etree.tostring(root, encoding="US-ASCII", xml_declaration=True) + b"\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """A document without its rows, written."""

    head: bytes
    """Up to the rows; ECHO, if it was in the document, included."""
    between: bytes
    """From there to the end of the table."""
    tail: bytes

    @classmethod
    def of(cls, root: Element, serialization: Serialization) -> Self:
        """The document *root*, whose rows will be where its empty TABLEDATA is."""
        document = render(root)
        head, found, rest = document.partition(b"<TABLEDATA/>")
        if not found or b"<TABLEDATA/>" in rest:
            raise ConfigurationError("a template with rows needs exactly one empty <TABLEDATA/>")
        before, after = _TAGS[serialization]
        between, end, tail = rest.partition(b"</TABLE>")
        return cls(head + before, after + between + end, tail)

    def echoing(self, infos: Iterable[tuple[str, str]]) -> Self:
        """With *infos*, names and values, in the place of the INFO named ECHO."""
        before, found, after = self.head.partition(_ECHO_INFO)
        if not found:
            return self
        rest = after.lstrip()
        blank = after[: len(after) - len(rest)]
        said = b"".join([_info(name, value) + blank for name, value in infos])
        return replace(self, head=before + said + rest)


def votable_chunks(
    root: Element | Frame,
    fields: Sequence[Field],
    blocks: Iterable[Block],
    *,
    serialization: Serialization = Serialization.TABLEDATA,
    limit: int | None = None,
    explain: Callable[[Exception], str],
    write: Callable[[Iterable[Block]], Iterator[bytes]] | None = None,
) -> Iterator[bytes]:
    """The document *root* with rows where its empty TABLEDATA is, in chunks, in bounded memory.

    A frame must be that of *serialization*. *write* makes the pieces of it, for blocks of
    another sort than those of *fields*. At most *limit* rows are written; where there was
    another, QUERY_STATUS OVERFLOW follows the table. Where *blocks* fail on the way,
    QUERY_STATUS ERROR follows it with what *explain* makes of the exception (DALI 1.1 §4.4.1,
    §4.4.2).
    """
    frame = root if isinstance(root, Frame) else Frame.of(root, serialization)
    source = _Guarded(blocks)
    limited = LimitedBlocks(source, limit)
    yield frame.head
    write = write or partial(_PIECES[serialization], fields)
    yield from gather(write(limited))
    if source.failure is not None:
        said = _status_info(Status.ERROR, explain(source.failure))
    elif limited.overflows:
        said = _status_info(Status.OVERFLOW)
    else:
        said = b""
    yield frame.between + said + frame.tail


def error_document(fault: str, message: str) -> bytes:
    """A document that says nothing but the error (DALI 1.1 §4.4.2).

    *fault* is the label that the protocol puts first, `UsageFault` for instance.
    """
    return render(load_template("error.xml").fill({"fault": fault, "message": message}))


def set_status(root: Element, status: Status) -> None:
    """Let the QUERY_STATUS before the table say *status* (DALI 1.1 §4.4.1)."""
    info = root.find(f"{votable('RESOURCE')}/{votable('INFO')}[@name='QUERY_STATUS']")
    if info is None:
        raise ConfigurationError("a template with a table has no INFO named QUERY_STATUS")
    info.set("value", status)


def votable(tag: str) -> str:
    """The qualified name of a VOTable element."""
    return f"{{{NAMESPACE}}}{tag}"


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place in a template that holds placeholders."""

    element: int
    """In document order."""
    attribute: str | None
    """None for text."""
    is_tail: bool
    text: str

    def fill(self, element: Element, values: Mapping[str, str], template: str) -> None:
        try:
            text = _PLACEHOLDER.sub(lambda match: values[match[1]], self.text)
        except KeyError as error:
            raise ConfigurationError(
                f"template {template}: nothing is known as {{{error.args[0]}}}"
            ) from None
        text = clean(text)
        if self.attribute is not None:
            element.set(self.attribute, text)
        elif self.is_tail:
            element.tail = text
        else:
            element.text = text


class _Guarded:
    """Blocks up to where they fail; it remembers what failed."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = blocks
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[Block]:
        try:
            yield from self._blocks
        except Exception as error:  # noqa: BLE001 - the answer has begun: it must end well-formed
            self.failure = error


def _slots_of(root: Element) -> Iterator[_Slot]:
    for number, element in enumerate(root.iter(etree.Element)):
        for attribute in map(str, element.attrib):
            text = element.get(attribute, "")
            if _PLACEHOLDER.search(text):
                yield _Slot(number, attribute, is_tail=False, text=text)
        if element.text and _PLACEHOLDER.search(element.text):
            yield _Slot(number, None, is_tail=False, text=element.text)
        if element.tail and _PLACEHOLDER.search(element.tail):
            yield _Slot(number, None, is_tail=True, text=element.tail)


def _field_of(element: Element) -> Field:
    try:
        return Field(
            name=str(element.attrib["name"]),
            datatype=str(element.attrib["datatype"]),
            arraysize=element.get("arraysize"),
            unit=element.get("unit"),
            ucd=element.get("ucd"),
            utype=element.get("utype"),
            xtype=element.get("xtype"),
            description=element.findtext(votable("DESCRIPTION")),
            id=element.get("ID"),
        )
    except KeyError as error:
        raise ConfigurationError(f"a FIELD lacks its {error.args[0]}") from None


def _info(name: str, value: str) -> bytes:
    info = etree.Element("INFO", {"name": clean(name), "value": clean(value)})
    return etree.tostring(info, encoding="US-ASCII")


def _status_info(status: Status, message: str = "") -> bytes:
    info = etree.Element("INFO", {"name": "QUERY_STATUS", "value": status})
    info.text = clean(message) or None
    return b"\n    " + etree.tostring(info, encoding="US-ASCII")


ECHO: Final = "{echo}"
"""Name of the INFO that holds the place of those that say again what was asked."""
_ECHO_INFO: Final = b'<INFO name="{echo}" value=""/>'

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")

_TAGS: Final = {
    Serialization.TABLEDATA: (b"<TABLEDATA>\n", b"</TABLEDATA>"),
    Serialization.BINARY2: (
        b'<BINARY2>\n<STREAM encoding="base64">\n',
        b"</STREAM>\n</BINARY2>",
    ),
}
_PIECES: Final = {
    Serialization.TABLEDATA: tabledata_pieces,
    Serialization.BINARY2: binary2_pieces,
}
