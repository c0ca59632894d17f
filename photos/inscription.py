"""What was done to a photo, written into the photo: the parameters that reproduce it, as an XMP property.

XMP is the one kind of metadata that every format here can hold, and a property of a namespace of its own displaces
nothing that the photographer wrote.

References:
    XMP Specification, part 1: Data model, serialization, and core properties (ISO 16684-1), sections 7.3 and 7.4.
"""

import html

from photos.xmp_packet import XmpPacket

__all__ = ["inscribed_xmp", "inscription_of", "software_entry"]

_NAMESPACE = "urn:scorefocus:1.0:"
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
    try:
        packet = XmpPacket(xmp or _EMPTY).without(lambda one: one.namespace == _NAMESPACE)
        end = XmpPacket(packet).end
    except ValueError:
        return None
    ours = (
        f'<rdf:Description rdf:about="" xmlns:scorefocus="{_NAMESPACE}">'
        f"<scorefocus:Software>{html.escape(software, quote=False)}</scorefocus:Software>"
        f"<scorefocus:Parameters>{html.escape(parameters, quote=False)}</scorefocus:Parameters></rdf:Description>\n"
    )
    return packet[:end] + ours.encode("utf-8") + packet[end:]


def inscription_of(xmp: bytes | None) -> str | None:
    """The parameters in an XMP packet, or None."""
    try:
        return XmpPacket(xmp or b"").value(_NAMESPACE, "Parameters")
    except ValueError:
        return None


def software_entry(software: str, before: str | None) -> str:
    """What the tag `Software` says: this program, and the one before it."""
    before = (before or "").strip("\0 ")
    own = software.partition(" ")[0]
    if before.startswith(own):
        before = before.partition(", after ")[2]
    return f"{software}, after {before}" if before else software
