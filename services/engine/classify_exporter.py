"""What an exporter's own application id says: an entry of the catalogue, or only the port that it was made of.

Ids are written `<exporter>:<id>`: `ndpi:TLS.WhatsApp`, `suricata:sip`, `nbar:youtube` (IPFIX 96, applicationName),
`ipfix:13:82` (IPFIX 95, applicationId: RFC 6759's engine and selector; in engine 20 the enterprise stands between).
"""

from services.engine.classify_evidence import EXPORTER_APPLICATION, IP_PROTOCOL, PORT
from services.engine.classify_table import Tables, Target

_IANA_L3 = "ipfix:1:"
_IANA_L4 = "ipfix:3:"
"""Engines that looked at nothing but the IP protocol number, or the port (RFC 6759 section 4.1)."""

_MAX_DIGITS = 5


def exported(tables: Tables, text: str, ip_protocol: int) -> tuple[int, str, Target] | None:
    """How far to trust the id `text`, the entry that it matches, and whose that is; None where it says nothing.

    `ndpi:TLS.WhatsApp` is asked for as it stands and then without the carrier: `ndpi:WhatsApp`. An id that repeats a
    port is worth what the port is worth. Raises nothing, whatever the text.
    """
    name = text.lower()
    hit = tables.exporter_ids.get(name)
    if hit is None and "." in name:
        exporter, colon, rest = name.rpartition(":")
        hit = tables.exporter_ids.get(f"{exporter}{colon}{rest.partition('.')[2]}")
    if hit is not None:
        return EXPORTER_APPLICATION, *hit
    if name.startswith(_IANA_L4):
        hit = tables.port(ip_protocol, _number(name.removeprefix(_IANA_L4)))
        return None if hit is None else (PORT, *hit)
    if name.startswith(_IANA_L3):
        hit = tables.ip_protocols.get(_number(name.removeprefix(_IANA_L3)))
        return None if hit is None else (IP_PROTOCOL, *hit)
    return None


def _number(text: str) -> int:
    """-1, which is no port and no protocol, for anything but a short decimal number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else -1
