"""Step 1 of 4: classify. Which application a flow belongs to, how sure that is, and on what evidence.

All evidence of a record is weighed and kept; the strongest decides, and strong evidence that contradicts it makes the
verdict suspect. A verdict that rests on texts and the far address alone is kept and handed out again as it is.
docs/classification.md tells the order and its reasons.
"""

from collections.abc import Sequence

import msgspec

from schemas.catalogue import Application
from schemas.classification import Classification, Evidence, EvidenceKind
from schemas.flow import FlowRecord
from services.engine.classify_addresses import is_group, network_of
from services.engine.classify_cache import BoundedCache
from services.engine.classify_evidence import (
    ADDRESS,
    AS_NUMBER,
    BEHAVIOUR,
    CONTENT_TYPE,
    DNS_NAME,
    FLOW_DESCRIPTION,
    HTTP_HOST,
    IP_PROTOCOL,
    NO_NAME,
    PORT,
    PROVIDED,
    SERVER_NAME,
    SHARED,
    STRONG,
    STUN_REALM,
    USER_AGENT,
    WEB_PORTS,
    WIDE_FLOW_DESCRIPTION,
    Address,
    Found,
    Name,
    Named,
    find,
)
from services.engine.classify_exporter import exported
from services.engine.classify_media import BEHAVIOURS, UDP, is_media
from services.engine.classify_memory import SubscriberMemory, Trail
from services.engine.classify_recall import NOTHING_HEARD, Heard, recall, remember
from services.engine.classify_table import CDN, Rule, Tables, Target
from services.engine.classify_verdict import UPLOAD_OCTETS, Verdict, conclude, is_upload
from services.engine.hostnames import canonical_address, is_address, normalise, pack_address

__all__ = ["Classifier", "SubscriberMemory"]

DNS_PORT = 53
STUN_PORT = 3478

FLOW_NAMES = frozenset(("server_name", "http_host"))
"""The names that stand for the server of the flow itself."""

EPHEMERAL_PORT = 32_768
"""From here on systems choose the port of the side that connects."""


class _Record(msgspec.Struct, frozen=True, gc=False):
    """What a record says by itself, without the subscriber's trail and without the rhythm of its packets."""

    found: tuple[Found, ...]
    shared: tuple[Found, ...]
    names: Named
    owner: Target | None
    """Whose the far side is, whether that was counted or not."""

    nameless: bool
    heard: Heard
    upload: bool
    alone: Verdict
    """The verdict when the trail adds nothing and the packets have no rhythm."""

    as_media: Verdict
    """The verdict when the trail adds nothing and the packets have the rhythm of media."""

    final: bool
    """True when trail and rhythm have no say."""


class Classifier:
    """Classifies flow records against one version of the applications; make a new one for a new version."""

    def __init__(self, applications: Sequence[Application], *, cache_entries: int) -> None:
        """Compile the tables. Each of the four caches holds at most `cache_entries`. Raises ValueError (see Tables)."""
        self._tables = Tables(applications)
        self._names: BoundedCache[str, Name] = BoundedCache(cache_entries)
        self._addresses: BoundedCache[str, Address] = BoundedCache(cache_entries)
        self._hints: BoundedCache[tuple[str | None, str | None], tuple[Found, ...]] = BoundedCache(cache_entries)
        self._records: BoundedCache[tuple[object, ...], _Record] = BoundedCache(cache_entries)

    def classify(self, flow: FlowRecord, memory: SubscriberMemory | None = None) -> Classification:
        """The verdict over one flow; `memory` lends what the subscriber did a moment ago, and learns from the flow.

        The same classifier, memory and flows in the same order give the same verdicts. Raises nothing.
        """
        trail = None
        if memory is not None:
            trail = memory.trails.get(flow.subscriber_id) or memory.trail_of(flow.subscriber_id)
            if trail.tables is not self._tables:
                trail.adopt(self._tables)
        if flow.dns_answers is not None or (flow.remote_port == DNS_PORT and flow.server_name is None):
            if trail is not None:
                trail.learn_answers(flow)
            return self._classify_query(flow)
        address = self._addresses.get(flow.remote_ip) or self._locate(flow.remote_ip)
        dns_name = flow.dns_name
        if dns_name is None and trail is not None and trail.names:
            dns_name = trail.name_of(address.text, flow)
        record = self._record(flow, address, dns_name)
        verdict = record.alone if record.final else self._beside(record, flow, address, trail)
        if trail is not None and verdict.target is not None:
            remember(flow, address, verdict.target, verdict.classification, trail)
        return verdict.classification

    def owner_of(self, flow: FlowRecord) -> tuple[str, str] | None:
        """The listed prefix or autonomous system that the far side lies in, and whose it is; for explanations."""
        address = self._addresses.get(flow.remote_ip) or self._locate(flow.remote_ip)
        if address.owner is not None:
            return address.matched, address.owner.application
        matched, owner = self._system(flow)
        return None if owner is None else (matched, owner.application)

    def _record(self, flow: FlowRecord, address: Address, dns_name: str | None) -> _Record:
        # The key holds all that `_read` looks at; the address only where the tables know it.
        protocol, port, near = flow.ip_protocol, flow.remote_port, flow.subscriber_port
        upload = flow.octets_up >= UPLOAD_OCTETS and is_upload(flow)
        system = flow.remote_as
        if system is not None and system not in self._tables.as_numbers:
            system = None
        key = (
            flow.server_name, flow.http_host, dns_name, flow.stun_realm, flow.exporter_application,
            flow.http_user_agent, flow.http_content_type, address.text if address.known else None,
            system, protocol << 16 | port, near if near < EPHEMERAL_PORT and _may_listen(protocol, port) else 0, upload,
        )  # fmt: skip
        record = self._records.get(key) or self._records.older(key)
        if record is None:
            record = self._read(flow, address, dns_name, upload=upload)
            self._records.put(key, record)
        return record

    def _beside(self, record: _Record, flow: FlowRecord, address: Address, trail: Trail | None) -> Verdict:
        """The verdict when the subscriber's trail and the rhythm of the packets are heard beside the record."""
        found = record.found
        media = flow.ip_protocol == UDP and is_media(flow)
        if record.nameless and trail is not None and not address.group:
            recalled = recall(record.heard, flow, address, trail, media=media)
            found = (*found, *recalled) if recalled else found
        if record.shared:
            backed = [item for item in record.shared if self._is_backed(item, record, flow, trail)]
            found = (*found, *backed) if backed else found
        if not found and record.nameless and flow.ip_protocol == UDP:
            found = self._behaviour(flow, group=address.group)
        if found is record.found:
            return record.as_media if media else record.alone
        return conclude(found, record.names, record.owner, media=media, upload=record.upload)

    def _classify_query(self, flow: FlowRecord) -> Classification:
        """A DNS query is DNS, whoever was asked for; the name asked stays in the explanation."""
        hit = self._tables.port(flow.ip_protocol, flow.remote_port) or self._tables.port(UDP, DNS_PORT)
        found = () if hit is None else (find(PORT, "port", str(flow.remote_port), *hit).evidence,)
        asked: tuple[Evidence, ...] = ()
        if flow.dns_name is not None:
            name = self._name(flow.dns_name)
            owner = name.target.application if name.target is not None else None
            asked = (Evidence(kind="dns_name", value=name.text, matched=name.matched, application=owner),)
        return Classification(
            category="other", application=None if hit is None else hit[1].application, service="dns", confidence=PORT,
            evidence=(*found, *asked), reason="no_evidence" if hit is None else None,
        )  # fmt: skip

    # Reading a record: gather what speaks by itself.

    def _read(self, flow: FlowRecord, address: Address, dns_name: str | None, *, upload: bool) -> _Record:
        names = self._names_of(flow, dns_name)
        found, shared, nameless = [], [], True
        for confidence, kind, name in names:
            target = name.target
            if target is not None and target.shared:
                shared.append(find(SHARED, kind, name.text, name.matched, target))
            elif target is not None and not target.public_name:
                found.append(find(confidence, kind, name.text, name.matched, target))
            if kind in FLOW_NAMES and (target is None or name.listed):
                nameless = False
        owner = address.owner
        if address.known or self._tables.rules_anywhere:
            self._add_address(found, shared, flow, address, named=bool(names))
        if flow.remote_as is not None:
            system = self._add_system(found, shared, flow, named=bool(names))
            owner = owner or system
        self._add_texts(found, flow)
        self._add_ports(found, flow)
        if flow.stun_realm is not None:
            self._add_relay(found, flow)
        final = not nameless and not shared and (flow.ip_protocol != UDP or flow.remote_port in WEB_PORTS)
        alone = conclude(found, names, owner, media=False, upload=upload)
        as_media = alone if final else conclude(found, names, owner, media=True, upload=upload)
        heard = NOTHING_HEARD if final else _heard(found)
        return _Record(tuple(found), tuple(shared), names, owner, nameless, heard, upload, alone, as_media, final)

    def _names_of(self, flow: FlowRecord, dns_name: str | None) -> Named:
        names: Named = []
        if flow.server_name is not None:
            names.append((SERVER_NAME, "server_name", self._name(flow.server_name)))
        if flow.http_host is not None:
            names.append((HTTP_HOST, "http_host", self._name(flow.http_host)))
        if flow.stun_realm is not None:
            names.append((STUN_REALM, "stun_realm", self._realm(flow.stun_realm)))
        if dns_name is not None:
            names.append((DNS_NAME, "dns_name", self._name(dns_name)))
        return [named for named in names if named[2] is not NO_NAME]

    def _add_address(
        self, found: list[Found], shared: list[Found], flow: FlowRecord, address: Address, *, named: bool
    ) -> None:
        for rule in (*address.rules, *self._tables.rules_anywhere):
            if rule.matches(flow.ip_protocol, flow.remote_port):
                value = f"{address.text} {flow.remote_port}"
                found.append(find(_trust(rule), "pfd", value, rule.text, rule.target))
        owner = address.owner
        if owner is None:
            return
        if owner.shared:
            shared.append(find(SHARED, "address", address.text, address.matched, owner))
        elif _may_own(flow, named=named):
            found.append(find(ADDRESS, "address", address.text, address.matched, owner))

    def _add_system(self, found: list[Found], shared: list[Found], flow: FlowRecord, *, named: bool) -> Target | None:
        """The owner of the far side's autonomous system; None of a shared one, where strangers have servers, too."""
        matched, owner = self._system(flow)
        if owner is None:
            return None
        if owner.shared:
            shared.append(find(SHARED, "asn", matched, matched, owner))
            return None
        if _may_own(flow, named=named):
            found.append(find(AS_NUMBER, "asn", matched, matched, owner))
        return owner

    def _system(self, flow: FlowRecord) -> tuple[str, Target | None]:
        return self._tables.as_numbers.get(flow.remote_as or 0, ("", None))

    def _add_texts(self, found: list[Found], flow: FlowRecord) -> None:
        text = flow.exporter_application
        if text is not None:
            hit = exported(self._tables, text, flow.ip_protocol)
            if hit is not None:
                confidence, matched, target = hit
                found.append(find(confidence, "exporter_application", text, matched, target))
        if flow.http_user_agent is not None or flow.http_content_type is not None:
            found.extend(self._hint(flow.http_user_agent, flow.http_content_type))

    def _add_ports(self, found: list[Found], flow: FlowRecord) -> None:
        protocol, port = flow.ip_protocol, flow.remote_port
        hit = self._tables.port(protocol, port)
        if hit is None and flow.subscriber_port < EPHEMERAL_PORT and _may_listen(protocol, port):
            port = flow.subscriber_port
            hit = self._tables.port(protocol, port)
        if hit is not None:
            found.append(find(PORT, "port", f"{'udp' if protocol == UDP else 'tcp'}/{port}", *hit))
        bare = self._tables.ip_protocols.get(protocol)
        if bare is not None:
            found.append(find(IP_PROTOCOL, "port", f"ip/{protocol}", *bare))

    def _add_relay(self, found: list[Found], flow: FlowRecord) -> None:
        """Whose realm it is or not, and at any port: what asks for a realm is STUN, and opens somebody's media."""
        hit = self._tables.port(UDP, STUN_PORT)
        if hit is not None and hit[1].carries_media and not any(item.target.carries_media for item in found):
            found.append(find(PORT, "stun_realm", flow.stun_realm or "", *hit))

    def _is_backed(self, item: Found, record: _Record, flow: FlowRecord, trail: Trail | None) -> bool:
        """What serves several applications counts only beside something else that points at the same one."""
        application = item.target.application
        if item.target.subcategory == CDN:
            return False
        others = (*record.found, *record.shared)
        if any(other is not item and other.target.application == application for other in others):
            return True
        if item.evidence.kind == "address" and any(other.target.carries_media for other in others):
            return True
        return (flow.ja4, application) in self._tables.ja4 or (trail is not None and trail.used(application, flow))

    def _behaviour(self, flow: FlowRecord, *, group: bool) -> tuple[Found, ...]:
        for name, shows, to_groups in BEHAVIOURS:
            hit = self._tables.behaviours.get(name)
            if hit is not None and (to_groups or not group) and shows(flow):
                return (find(BEHAVIOUR, "behaviour", name, *hit),)
        return ()

    # Looking up what the record holds.

    def _name(self, text: str) -> Name:
        return self._names.get(text) or self._names.older(text) or self._new_name(text)

    def _new_name(self, text: str) -> Name:
        host = normalise(text)
        hit = None if host is None else self._tables.names.find(host)
        if hit is not None:
            known = Name(host or text, hit[0], hit[1])
        elif not text or (host is not None and (":" in host or host[-1].isdigit()) and is_address(host)):
            known = NO_NAME
        else:
            known = Name(host or text, None, None)
        self._names.put(text, known)
        return known

    def _realm(self, text: str) -> Name:
        hit = self._tables.realms.get(text.lower())
        name = self._name(text) if hit is None else Name(text.lower(), *hit)
        if name.target is not None and name.target.media is not None:
            return Name(name.text, name.matched, name.target.media)
        return name

    def _locate(self, text: str) -> Address:
        older = self._addresses.older(text)
        if older is not None:
            return older
        packed = pack_address(text)
        if packed is None:
            known = Address(text, b"", True, "", None, (), known=False)
        else:
            matched, owner = next(self._tables.prefixes.covering(packed), ("", None))
            rules = tuple(self._tables.rules_at.covering(packed))
            spelt = canonical_address(text) or text
            listed = owner is not None or bool(rules)
            known = Address(spelt, network_of(packed), is_group(packed), matched, owner, rules, listed)
        self._addresses.put(text, known)
        return known

    def _hint(self, user_agent: str | None, content_type: str | None) -> tuple[Found, ...]:
        key = (user_agent, content_type)
        known = self._hints.get(key) or self._hints.older(key)
        if known is None:
            agents = _beginning(USER_AGENT, "user_agent", user_agent, self._tables.user_agents)
            types = _beginning(CONTENT_TYPE, "content_type", content_type, self._tables.content_types)
            known = (*agents, *types)
            if known:
                self._hints.put(key, known)
        return known


def _may_own(flow: FlowRecord, *, named: bool) -> bool:
    """False for a web flow without any name: all that the owner of an address range hosts is there."""
    named = named or flow.server_name is not None or flow.http_host is not None
    return named or flow.remote_port not in WEB_PORTS


def _may_listen(protocol: int, port: int) -> bool:
    """True when the subscriber's port may be the one that tells, by the protocol and the far port."""
    return protocol == UDP or port >= EPHEMERAL_PORT


def _heard(found: list[Found]) -> Heard:
    return Heard(
        anything=bool(found),
        strong=any(item.confidence >= STRONG for item in found),
        ported=any(item.evidence.kind == "port" for item in found),
        carried=any(item.target.carries_media for item in found),
    )


def _trust(rule: Rule) -> int:
    """Without an address it is a port, whoever wrote it; what was provided rules; else the network's width decides."""
    network = rule.description.network
    if network is None:
        return PORT
    if rule.target.provided:
        return PROVIDED
    return FLOW_DESCRIPTION if network.prefixlen * 4 >= network.max_prefixlen * 3 else WIDE_FLOW_DESCRIPTION


def _beginning(
    confidence: int, kind: EvidenceKind, text: str | None, table: tuple[tuple[str, Target], ...]
) -> tuple[Found, ...]:
    lower = (text or "").lower()
    for start, target in table:
        if lower.startswith(start):
            return (find(confidence, kind, lower, start, target),)
    return ()
