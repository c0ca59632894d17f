"""Properties in an XMP packet: where their bytes lie, so that some can be read or removed and all else stays as it is.

A property is an element or an attribute of a description that lies in `rdf:RDF` itself; editors turn the one into the
other and merge descriptions. What structures hold deeper down is theirs.

References:
    XMP Specification, part 1: Data model, serialization, and core properties (ISO 16684-1), section 7.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from xml.parsers import expat

__all__ = ["Property", "XmpPacket"]

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TAG = re.compile(rb"""<[^\s/>]+(?:\s+[^\s=>]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>""")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=>]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


@dataclass(frozen=True)
class Property:
    """A property: its namespace and name, from where to where it lies, and its value as spelled in the packet."""

    namespace: str
    name: str
    start: int
    end: int
    spelled: bytes


@dataclass
class _Open:
    """An element whose end is to come: its name, where it begins, where its tag ends, and what prefixes stand for."""

    namespace: str
    name: str
    start: int
    inside: int
    prefixes: dict[str, str]

    def is_rdf(self, name: str) -> bool:
        return (self.namespace, self.name) == (_RDF, name)


@dataclass(frozen=True)
class _Description:
    start: int
    inside: int
    inside_end: int
    end: int
    properties: list[Property]


class XmpPacket:
    """A packet as it was read.

    Args:
        data: The packet, in UTF-8; bytes that are not, and padding behind the last element, do not matter.

    Attributes:
        end: Where the last end tag of `rdf:RDF` begins; a description may be inserted there.

    Raises:
        ValueError: If it is not well-formed, in another encoding, or has no `rdf:RDF` with a start and an end tag.
    """

    def __init__(self, data: bytes) -> None:
        self.end: int | None = None
        self._data, self._descriptions, self._properties = data, [], []
        self._path: list[_Open] = []
        self._first = max(data.find(b"<"), 0)  # behind a byte order mark
        # One byte is one character then, whatever the bytes are.
        parser = self._parser = expat.ParserCreate("iso-8859-1")
        parser.StartElementHandler, parser.EndElementHandler = self._on_start, self._on_end
        parser.StartDoctypeDeclHandler = self._on_doctype
        try:
            parser.Parse(data[self._first :], True)
        except expat.ExpatError as error:
            if self._path or self.end is None:
                raise ValueError(f"expected a well-formed XMP packet, got one with an error: {error}") from error
        if self.end is None:
            raise ValueError("expected an XMP packet with rdf:RDF, got one without")

    def value(self, namespace: str, name: str) -> str | None:
        """The value of a simple property, or None where there is no such property."""
        properties = [one for description in self._descriptions for one in description.properties]
        found = (one.spelled for one in properties if (one.namespace, one.name) == (namespace, name))
        spelled = next(found, None)
        return None if spelled is None else html.unescape(spelled.decode("utf-8", "replace"))

    def without(self, unwanted: Callable[[Property], bool]) -> bytes:
        """The packet without some properties, and without descriptions that hold nothing else."""
        spans = []
        for description in self._descriptions:
            found = [(one.start, one.end) for one in description.properties if unwanted(one)]
            inside = [span for span in found if span[0] >= description.inside]
            left = _cut(self._data[: description.inside_end], inside)[description.inside :]
            if found and len(found) == len(description.properties) and not left.strip():
                following = self._data[description.end :]
                found = [(description.start, description.end + len(following) - len(following.lstrip()))]
            spans += found
        return _cut(self._data, spans)

    def _on_doctype(self, *_: object) -> None:
        raise ValueError("expected an XMP packet without a document type, got one with it")

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        start = self._first + self._parser.CurrentByteIndex
        tag = _TAG.match(self._data, start)
        if tag is None:
            raise ValueError("expected an XMP packet in UTF-8, got one in another encoding")
        prefixes = self._path[-1].prefixes if self._path else {}
        declared = {key[6:]: value for key, value in attributes.items() if key.partition(":")[0] == "xmlns"}
        prefixes = prefixes | declared if declared else prefixes
        element = _Open(*_resolved(name, prefixes), start, tag.end(), prefixes)
        if self._path and self._path[-1].is_rdf("RDF") and element.is_rdf("Description"):
            self._properties = list(_attributes(self._data, element))
        self._path.append(element)

    def _on_end(self, name: str) -> None:
        element = self._path.pop()
        inside_end = end = element.inside
        if self._data[end - 2 : end] != b"/>":
            inside_end = self._first + self._parser.CurrentByteIndex
            end = self._data.index(b">", inside_end) + 1
            if name == "rdf:RDF" and element.is_rdf("RDF"):
                self.end = inside_end
        above = self._path[-2:]
        if len(above) == 2 and above[0].is_rdf("RDF") and above[1].is_rdf("Description"):
            spelled = self._data[element.inside : inside_end]
            self._properties.append(Property(element.namespace, element.name, element.start, end, spelled))
        elif above and above[-1].is_rdf("RDF") and element.is_rdf("Description"):
            description = _Description(element.start, element.inside, inside_end, end, self._properties)
            self._descriptions.append(description)


def _resolved(name: str, prefixes: dict[str, str]) -> tuple[str, str]:
    """Namespace and local name."""
    prefix, _, local = name.rpartition(":")
    return prefixes.get(prefix, ""), local


def _attributes(data: bytes, element: _Open) -> list[Property]:
    """The properties of a description that are attributes."""
    found = []
    for match in _ATTRIBUTE.finditer(data, element.start, element.inside):
        name = match[1].decode("latin-1")
        namespace, local = _resolved(name, element.prefixes)
        if name.partition(":")[0] != "xmlns" and (namespace, local) != (_RDF, "about"):
            found.append(Property(namespace, local, *match.span(), match[2] if match[2] is not None else match[3]))
    return found


def _cut(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    """The data without these spans, which do not overlap."""
    for start, end in sorted(spans, reverse=True):
        data = data[:start] + data[end:]
    return data
