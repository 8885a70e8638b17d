"""Step 1 of 4: classify. Which application a flow belongs to, how sure that is, and on what evidence.

All evidence of a record is weighed and kept; the strongest decides, and strong evidence that contradicts it makes the
verdict suspect. A verdict that rests on texts and the far address alone is kept and handed out again as it is.
docs/classification.md tells the order and its reasons.
"""

from collections.abc import Sequence

from schemas.catalogue import Application
from schemas.classification import Classification, Evidence, EvidenceKind
from schemas.flow import FlowRecord
from services.engine.classify_addresses import is_group, network_of
from services.engine.classify_cache import BoundedCache
from services.engine.classify_evidence import (
    ADDRESS,
    BEHAVIOUR,
    CONTENT_TYPE,
    DNS_NAME,
    EXPORTER_APPLICATION,
    FLOW_DESCRIPTION,
    HTTP_HOST,
    IP_PROTOCOL,
    PORT,
    PROVIDED,
    SERVER_NAME,
    SHARED,
    STUN_REALM,
    USER_AGENT,
    WEB_PORTS,
    WIDE_FLOW_DESCRIPTION,
    Address,
    Found,
    Name,
    Named,
)
from services.engine.classify_media import BEHAVIOURS, UDP
from services.engine.classify_memory import SubscriberMemory, Trail
from services.engine.classify_recall import recall, remember
from services.engine.classify_table import CDN, Rule, Tables, Target
from services.engine.classify_verdict import Verdict, conclude, is_upload
from services.engine.hostnames import canonical_address, is_address, normalise, pack_address

__all__ = ["Classifier", "SubscriberMemory"]

DNS_PORT = 53

EPHEMERAL_PORT = 32_768
"""From here on systems choose the port of the side that connects."""


class Classifier:
    """Classifies flow records against one version of the applications; make a new one for a new version."""

    def __init__(self, applications: Sequence[Application], *, cache_entries: int) -> None:
        """Compile the tables. Each of the four caches holds at most `cache_entries`. Raises ValueError (see Tables)."""
        self._tables = Tables(applications)
        self._names: BoundedCache[str, Name] = BoundedCache(cache_entries)
        self._addresses: BoundedCache[str, Address] = BoundedCache(cache_entries)
        self._hints: BoundedCache[tuple[str | None, str | None], tuple[Found, ...]] = BoundedCache(cache_entries)
        self._verdicts: BoundedCache[tuple[object, ...], Verdict] = BoundedCache(cache_entries)

    def classify(self, flow: FlowRecord, memory: SubscriberMemory | None = None) -> Classification:
        """The verdict over one flow; `memory` lends what the subscriber did a moment ago, and learns from the flow.

        The same classifier, memory and flows in the same order give the same verdicts. Raises nothing.
        """
        trail = memory.trail_of(flow.subscriber_id) if memory is not None else None
        if flow.dns_answers is not None or (flow.remote_port == DNS_PORT and flow.server_name is None):
            if trail is not None:
                trail.learn_answers(flow)
            return self._classify_query(flow)
        address = self._addresses.get(flow.remote_ip) or self._locate(flow.remote_ip)
        dns_name = flow.dns_name
        if dns_name is None and trail is not None:
            dns_name = trail.name_of(address.text, flow)
        verdict = self._verdict(flow, address, dns_name, trail)
        if trail is not None and verdict.target is not None:
            remember(flow, address, verdict.target, verdict.classification, trail)
        return verdict.classification

    def _verdict(self, flow: FlowRecord, address: Address, dns_name: str | None, trail: Trail | None) -> Verdict:
        unnamed = flow.server_name is None and flow.http_host is None
        if unnamed or address.rules or flow.http_user_agent is not None or flow.http_content_type is not None:
            return self._weigh(flow, address, dns_name, trail)
        key = (
            flow.server_name, flow.http_host, dns_name, flow.stun_realm, flow.exporter_application, address.owner,
            flow.ip_protocol << 16 | flow.remote_port, is_upload(flow),
        )  # fmt: skip
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._weigh(flow, address, dns_name, trail)
            if verdict.settled:
                self._verdicts.put(key, verdict)
        return verdict

    def _classify_query(self, flow: FlowRecord) -> Classification:
        """A DNS query is DNS, whoever was asked for; the name asked stays in the explanation."""
        hit = self._tables.port(flow.ip_protocol, flow.remote_port) or self._tables.port(UDP, DNS_PORT)
        found = () if hit is None else (Found(PORT, "port", str(flow.remote_port), *hit).told(),)
        asked: tuple[Evidence, ...] = ()
        if flow.dns_name is not None:
            name = self._name(flow.dns_name)
            owner = name.target.application if name.target is not None else None
            asked = (Evidence(kind="dns_name", value=name.text, matched=name.matched, application=owner),)
        return Classification(
            category="other", application=None if hit is None else hit[1].application, service="dns", confidence=PORT,
            evidence=(*found, *asked), reason="no_evidence" if hit is None else None,
        )  # fmt: skip

    # Weighing: gather what speaks, then conclude.

    def _weigh(self, flow: FlowRecord, address: Address, dns_name: str | None, trail: Trail | None) -> Verdict:
        names = self._names_of(flow, dns_name)
        found = [Found(confidence, kind, name.text, name.matched or "", name.target)
                 for confidence, kind, name in names if name.listed and name.target is not None]  # fmt: skip
        self._add_rules(found, flow, address)
        self._add_texts(found, flow)
        if address.owner is not None and _address_counts(flow, address.owner, names):
            found.append(Found(ADDRESS, "address", address.text, address.matched, address.owner))
        self._add_ports(found, flow)
        nameless = not any(_names_the_server(kind, name) for _, kind, name in names)
        if nameless and trail is not None and not address.group:
            recall(found, flow, address, trail)
        shared = self._add_shared(found, flow, address, names, trail)
        if not found and nameless and flow.ip_protocol == UDP:
            self._add_behaviour(found, flow, group=address.group)
        # The counters of other UDP flows had a say, and so had the trail where there was no name.
        settled = not nameless and not shared and (flow.ip_protocol != UDP or flow.remote_port in WEB_PORTS)
        return conclude(flow, found, names, address.owner, settled=settled)

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
        return [named for named in names if named[2].text and not is_address(named[2].text)]

    def _add_rules(self, found: list[Found], flow: FlowRecord, address: Address) -> None:
        found.extend(
            Found(_trust(rule), "pfd", f"{address.text} {flow.remote_port}", rule.text, rule.target)
            for rule in (*address.rules, *self._tables.rules_anywhere)
            if rule.matches(flow.ip_protocol, flow.remote_port)
        )

    def _add_texts(self, found: list[Found], flow: FlowRecord) -> None:
        exported = flow.exporter_application
        if exported is not None:
            hit = self._exported(exported)
            if hit is not None:
                found.append(Found(EXPORTER_APPLICATION, "exporter_application", exported, *hit))
        if flow.http_user_agent is not None or flow.http_content_type is not None:
            found.extend(self._hint(flow.http_user_agent, flow.http_content_type))

    def _add_ports(self, found: list[Found], flow: FlowRecord) -> None:
        protocol, port = flow.ip_protocol, flow.remote_port
        hit = self._tables.port(protocol, port)
        if hit is None and flow.subscriber_port < EPHEMERAL_PORT and (protocol == UDP or port >= EPHEMERAL_PORT):
            # The subscriber's side may be the one that listens, or both may use the protocol's port.
            port = flow.subscriber_port
            hit = self._tables.port(protocol, port)
        if hit is not None:
            found.append(Found(PORT, "port", f"{'udp' if protocol == UDP else 'tcp'}/{port}", *hit))
        bare = self._tables.ip_protocols.get(protocol)
        if bare is not None:
            found.append(Found(IP_PROTOCOL, "port", f"ip/{protocol}", *bare))

    def _add_shared(
        self, found: list[Found], flow: FlowRecord, address: Address, names: Named, trail: Trail | None
    ) -> bool:
        """What serves several applications counts only beside something else that points at the same one."""
        shared = [Found(SHARED, kind, name.text, name.matched or "", name.target)
                  for _, kind, name in names if name.target is not None and name.target.shared]  # fmt: skip
        if address.owner is not None and address.owner.shared:
            shared.append(Found(SHARED, "address", address.text, address.matched, address.owner))
        backed = [item for item in shared if self._is_backed(item, (*found, *shared), flow, trail)]
        found.extend(backed)
        return bool(shared)

    def _is_backed(self, item: Found, others: tuple[Found, ...], flow: FlowRecord, trail: Trail | None) -> bool:
        application = item.target.application
        if item.target.subcategory == CDN:
            return False
        if any(other is not item and other.target.application == application for other in others):
            return True
        if item.kind == "address" and any(other.target.carries_media for other in others):
            return True
        return (flow.ja4, application) in self._tables.ja4 or (trail is not None and trail.used(application, flow))

    def _add_behaviour(self, found: list[Found], flow: FlowRecord, *, group: bool) -> None:
        for name, shows, to_groups in BEHAVIOURS:
            hit = self._tables.behaviours.get(name)
            if hit is not None and (to_groups or not group) and shows(flow):
                found.append(Found(BEHAVIOUR, "behaviour", name, *hit))
                return

    # Looking up what the record holds.

    def _name(self, text: str) -> Name:
        known = self._names.get(text)
        if known is None:
            host = normalise(text)
            hit = self._tables.names.find(host) if host is not None and not is_address(host) else None
            known = Name(host or text, *(hit or (None, None)))
            self._names.put(text, known)
        return known

    def _realm(self, text: str) -> Name:
        hit = self._tables.realms.get(text.lower())
        name = self._name(text) if hit is None else Name(text.lower(), *hit)
        if name.target is not None and name.target.media is not None:
            return name._replace(target=name.target.media)
        return name

    def _locate(self, text: str) -> Address:
        packed = pack_address(text)
        if packed is None:
            known = Address(text, b"", True, "", None, ())
        else:
            matched, owner = next(self._tables.prefixes.covering(packed), ("", None))
            rules = tuple(self._tables.rules_at.covering(packed))
            spelt = canonical_address(text) or text
            known = Address(spelt, network_of(packed), is_group(packed), matched, owner, rules)
        self._addresses.put(text, known)
        return known

    def _exported(self, text: str) -> tuple[str, Target] | None:
        """`ndpi:TLS.WhatsApp` is asked for as it stands and then without the carrier: `ndpi:WhatsApp`."""
        name = text.lower()
        hit = self._tables.exporter_ids.get(name)
        if hit is None and "." in name:
            exporter, colon, rest = name.rpartition(":")
            hit = self._tables.exporter_ids.get(f"{exporter}{colon}{rest.partition('.')[2]}")
        return hit

    def _hint(self, user_agent: str | None, content_type: str | None) -> tuple[Found, ...]:
        key = (user_agent, content_type)
        known = self._hints.get(key)
        if known is None:
            agents = _beginning(USER_AGENT, "user_agent", user_agent, self._tables.user_agents)
            types = _beginning(CONTENT_TYPE, "content_type", content_type, self._tables.content_types)
            known = (*agents, *types)
            self._hints.put(key, known)
        return known


def _names_the_server(kind: EvidenceKind, name: Name) -> bool:
    """True for a name that the flow itself carries and that stands for its server, listed or not."""
    return kind in {"server_name", "http_host"} and (name.target is None or name.listed)


def _address_counts(flow: FlowRecord, owner: Target, names: Named) -> bool:
    """An address range alone does not decide a web flow without any name: all that its owner hosts is there."""
    named = flow.server_name is not None or flow.http_host is not None or bool(names)
    return not owner.shared and (named or flow.remote_port not in WEB_PORTS)


def _trust(rule: Rule) -> int:
    """What was provided rules; else a rule is as good as its network is narrow."""
    if rule.target.provided:
        return PROVIDED
    network = rule.description.network
    if network is None:
        return PORT
    return FLOW_DESCRIPTION if network.prefixlen * 4 >= network.max_prefixlen * 3 else WIDE_FLOW_DESCRIPTION


def _beginning(
    confidence: int, kind: EvidenceKind, text: str | None, table: tuple[tuple[str, Target], ...]
) -> tuple[Found, ...]:
    lower = (text or "").lower()
    for start, target in table:
        if lower.startswith(start):
            return (Found(confidence, kind, lower, start, target),)
    return ()
