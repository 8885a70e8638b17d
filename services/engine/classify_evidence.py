"""What can speak for an application, and how far each kind of evidence is trusted alone."""

import msgspec

from schemas.classification import Evidence, EvidenceKind
from services.engine.classify_table import Rule, Target

PROVIDED = 100
"""A flow description that a partner or the operator provided."""

SERVER_NAME = 90
HTTP_HOST = 88
SAME_FLOW = 87
STUN_REALM = 85
FLOW_DESCRIPTION = 80
DNS_NAME = 75
EXPORTER_APPLICATION = 70
MEDIA_PORT = 69
IP_PROTOCOL = 68
SERVER_SEEN = 66
MEDIA_NETWORK = 65
WIDE_FLOW_DESCRIPTION = 62
ADDRESS = 60
MEDIA_RECENT = 55
AS_NUMBER = 52
SHARED = 50
USER_AGENT = 48
CONTENT_TYPE = 40
PORT = 30
DURING_CALL = 25
BEHAVIOUR = 20

STRONG = 60
"""Evidence from here on can contradict other evidence, and is worth remembering."""

WEB_PORTS = frozenset((80, 443))
"""Where one address serves many names, so that an address without a name says little."""


class Name(msgspec.Struct, frozen=True, gc=False):
    """A host as it is spelt in the table, and the entry that covers it, if any."""

    text: str
    matched: str | None
    target: Target | None

    @property
    def listed(self) -> bool:
        """True when an entry covers the name and may decide alone."""
        return self.target is not None and not self.target.shared and not self.target.public_name


NO_NAME = Name("", None, None)
"""Stands for a host that is an IP literal: the far address says more."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """A far address: its one spelling, its network, whether it is a group, the prefix that owns it, rules for it.

    `known` says that the tables hold an owner or a rule.
    """

    text: str
    network: bytes
    group: bool
    matched: str
    owner: Target | None
    rules: tuple[Rule, ...]
    known: bool


class Found(msgspec.Struct, frozen=True, gc=False):
    """Evidence that points at an application, and how it is told in the explanation."""

    confidence: int
    target: Target
    evidence: Evidence


def find(confidence: int, kind: EvidenceKind, value: str, matched: str | None, target: Target) -> Found:
    """Evidence of one kind: what the record held and the entry of the catalogue that it matched."""
    evidence = Evidence(
        kind=kind, value=value, matched=matched, application=target.application, confidence=confidence
    )  # fmt: skip
    return Found(confidence, target, evidence)


Named = list[tuple[int, EvidenceKind, Name]]
"""The names of one record: how far a name in this place is trusted, the place, the name."""
