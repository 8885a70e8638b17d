"""Evidence from the subscriber's last minutes, and what a verdict leaves behind for the minutes to come.

A call's media has no name. It runs to a relay that was asked for by STUN a second ago, over a port that the
application opened for it, while the application's signalling goes on: so it is known by its company.
"""

from typing import NamedTuple

from schemas.classification import Classification
from schemas.flow import FlowRecord
from services.engine.classify_evidence import (
    DURING_CALL,
    MEDIA_NETWORK,
    MEDIA_PORT,
    MEDIA_RECENT,
    PORT,
    SAME_FLOW,
    SERVER_SEEN,
    STRONG,
    WEB_PORTS,
    Address,
    Found,
    find,
)
from services.engine.classify_media import UDP, is_both_ways, is_media_control, is_voice
from services.engine.classify_memory import Seen, Trail
from services.engine.classify_table import SIGNALLING, Target

_FIRST_FREE_PORT = 1_024


class Heard(NamedTuple):
    """What the record's own evidence amounts to, as far as the trail has to know."""

    anything: bool
    strong: bool
    ported: bool
    """A port of the catalogue."""

    carried: bool
    """A protocol that carries somebody's media."""


NOTHING_HEARD = Heard(anything=False, strong=False, ported=False, carried=False)


def recall(heard: Heard, flow: FlowRecord, address: Address, trail: Trail, *, media: bool) -> list[Found]:
    """What the trail says about a flow without a name of its own, beside what was `heard` from the record.

    `media` says that the packets have the rhythm of media.
    """
    recalled: list[Found] = []
    seen = trail.server(address.text, flow) if trail.servers else None
    if seen is not None:
        if seen[3] == flow.subscriber_port:
            recalled.append(find(SAME_FLOW, "media", address.text, "same flow", seen[0]))
        elif flow.remote_port not in WEB_PORTS:
            recalled.append(find(SERVER_SEEN, "media", address.text, "same server", seen[0]))
    if recalled:
        heard = Heard(True, True, heard.ported, heard.carried)
    if heard.carried or flow.ip_protocol == UDP:
        found = _recall_media(heard, flow, address, trail, media=media)
        if found is not None:
            recalled.append(found)
    return recalled


def _recall_media(heard: Heard, flow: FlowRecord, address: Address, trail: Trail, *, media: bool) -> Found | None:
    # A UDP socket belongs to one application, so its port tells even where nothing else does.
    tied = trail.port(flow) if flow.ip_protocol == UDP else None
    if tied is not None and (media or heard.carried or not heard.strong):
        return find(MEDIA_PORT, "media", f"udp/{flow.subscriber_port}", "same port", tied)
    if heard.carried or (media and not heard.ported):
        return _recall_signal(heard, flow, address, trail)
    if heard.anything or min(flow.remote_port, flow.subscriber_port) < _FIRST_FREE_PORT:
        return None
    call = trail.call(flow)
    if call is not None:
        return find(DURING_CALL, "media", f"udp/{flow.remote_port}", "during a call", call)
    calling = _calling(trail.signals(flow)) if is_media_control(flow) else None
    return None if calling is None else find(DURING_CALL, "media", f"udp/{flow.remote_port}", "control", calling)


def _recall_signal(heard: Heard, flow: FlowRecord, address: Address, trail: Trail) -> Found | None:
    recent = trail.signals(flow)
    for target, _, _, network in recent:
        if network == address.network and target.media is not None:
            return find(MEDIA_NETWORK, "media", address.text, "same network", target.media)
    # Social applications chatter all day, so only one made for calls explains media that goes elsewhere.
    calling = _calling(recent)
    if calling is None or heard.strong or not (heard.carried or is_both_ways(flow) or is_voice(flow)):
        return None
    return find(MEDIA_RECENT, "media", address.text, "used just before", calling)


def _calling(recent: list[Seen[bytes]]) -> Target | None:
    """The calls of the application made for calls that was used last."""
    return next((seen[0].media for seen in recent if seen[0].made_for_calls), None)


def remember(flow: FlowRecord, address: Address, target: Target, verdict: Classification, trail: Trail) -> None:
    """Leave the verdict in the trail. Strong, undisputed verdicts teach; weak ones would only repeat themselves."""
    if verdict.suspect:
        return
    if flow.ip_protocol == UDP and verdict.confidence >= PORT and flow.remote_port not in WEB_PORTS:
        trail.learn_port(target, flow)
    if target.category == "other":
        # Something else speaks from this address too, so it says nothing any more.
        if trail.servers and not target.neutral:
            trail.servers.pop(address.text, None)
        return
    if target.neutral or (verdict.confidence < STRONG and target.subcategory != SIGNALLING):
        return
    trail.learn_server(address.text, target, flow)
    if target.media is not None:
        trail.learn_signal(target, address.network, flow)
