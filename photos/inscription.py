"""What was done to a photo, written into the photo: the parameters that reproduce it, as an XMP property.

XMP is the one kind of metadata that every format here can hold, and a property of a namespace of its own displaces
nothing that the photographer wrote.

References:
    XMP Specification, part 1: Data model, serialization, and core properties (ISO 16684-1), sections 7.3 and 7.4.
"""

import html
import re

__all__ = ["inscribed_xmp", "inscription_of", "software_entry"]

_NAMESPACE = "urn:scorefocus:1.0:"
_OURS = re.compile(rb'<rdf:Description [^>]*xmlns:scorefocus="[^"]*"[^>]*>.*?</rdf:Description>\s*', re.DOTALL)
_PARAMETERS = re.compile(rb"<scorefocus:Parameters>(.*?)</scorefocus:Parameters>", re.DOTALL)
_END = b"</rdf:RDF>"
_EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'
)


def inscribed_xmp(xmp: bytes | None, software: str, parameters: str) -> bytes | None:
    """Adds the parameters to an XMP packet, in place of earlier ones; all else keeps its bytes.

    Args:
        xmp: A packet, or None for a new one.
        software: Name and version of the program.
        parameters: What reproduces the result, as text.

    Returns:
        The packet, or None where the given one has another form and is better left alone.
    """
    packet = _OURS.sub(b"", xmp or _EMPTY)
    before, end, after = packet.rpartition(_END)
    if not end or b"http://www.w3.org/1999/02/22-rdf-syntax-ns#" not in before:
        return None
    ours = (
        f'<rdf:Description rdf:about="" xmlns:scorefocus="{_NAMESPACE}">'
        f"<scorefocus:Software>{html.escape(software, quote=False)}</scorefocus:Software>"
        f"<scorefocus:Parameters>{html.escape(parameters, quote=False)}</scorefocus:Parameters></rdf:Description>\n"
    )
    return before + ours.encode("utf-8") + end + after


def inscription_of(xmp: bytes | None) -> str | None:
    """The parameters in an XMP packet, or None."""
    match = _PARAMETERS.search(xmp or b"")
    return None if match is None else html.unescape(match[1].decode("utf-8", "replace"))


def software_entry(software: str, before: str | None) -> str:
    """What the tag `Software` says: this program, and the one before it."""
    before = (before or "").strip("\0 ")
    own = software.partition(" ")[0]
    if before.startswith(own):
        before = before.partition(", after ")[2]
    return f"{software}, after {before}" if before else software
