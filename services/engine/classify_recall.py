"""Evidence from the subscriber's last minutes, and what a verdict leaves behind for the minutes to come.

A call's media has no name. It runs to a relay that was asked for by STUN a second ago, over a port that the
application opened for it, while the application's signalling goes on: so it is known by its company.
"""

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
)
from services.engine.classify_media import UDP, is_media, is_voice
from services.engine.classify_memory import Trail
from services.engine.classify_table import SIGNALLING, Target

_FIRST_FREE_PORT = 1_024


def recall(found: list[Found], flow: FlowRecord, address: Address, trail: Trail) -> None:
    """Add to `found` what the trail says about a flow that has no name of its own."""
    seen = trail.server(address.text, flow)
    if seen is not None:
        if seen.detail == flow.subscriber_port:
            found.append(Found(SAME_FLOW, "media", address.text, "same flow", seen.target))
        elif flow.remote_port not in WEB_PORTS:
            found.append(Found(SERVER_SEEN, "media", address.text, "same server", seen.target))
    carried = any(item.target.carries_media for item in found)
    if flow.ip_protocol == UDP:
        _recall_media(found, flow, address, trail, carried=carried)
    elif carried:
        _recall_signals(found, flow, address, trail, carried=carried)


def _recall_media(found: list[Found], flow: FlowRecord, address: Address, trail: Trail, *, carried: bool) -> None:
    media = is_media(flow)
    # A UDP socket belongs to one application, so its port tells even where nothing else does.
    tied = trail.port(flow)
    if tied is not None and (media or carried or not found):
        found.append(Found(MEDIA_PORT, "media", f"udp/{flow.subscriber_port}", "same port", tied.target))
    elif carried or (media and not any(item.kind == "port" for item in found)):
        _recall_signals(found, flow, address, trail, carried=carried)
    elif not found and min(flow.remote_port, flow.subscriber_port) >= _FIRST_FREE_PORT:
        call = trail.call(flow)
        if call is not None:
            found.append(Found(DURING_CALL, "media", f"udp/{flow.remote_port}", "during a call", call.target))


def _recall_signals(found: list[Found], flow: FlowRecord, address: Address, trail: Trail, *, carried: bool) -> None:
    recent = list(trail.signals(flow))
    near = next((item for item in recent if item.detail == address.network), None)
    if near is not None:
        found.append(Found(MEDIA_NETWORK, "media", address.text, "same network", near.target))
        return
    # Social applications chatter all day, so only one made for calls explains media that goes elsewhere.
    calling = next((item.target for item in recent if item.target.made_for_calls), None)
    if calling is None or any(item.confidence >= STRONG for item in found):
        return
    if carried or is_voice(flow):
        found.append(Found(MEDIA_RECENT, "media", address.text, "used just before", calling))


def remember(flow: FlowRecord, address: Address, target: Target, verdict: Classification, trail: Trail) -> None:
    """Leave the verdict in the trail. Strong, undisputed verdicts teach; weak ones would only repeat themselves."""
    if verdict.suspect:
        return
    if flow.ip_protocol == UDP and verdict.confidence >= PORT and flow.remote_port not in WEB_PORTS:
        trail.learn_port(target, flow)
    if target.neutral or (verdict.confidence < STRONG and target.subcategory != SIGNALLING):
        return
    if target.category == "other":
        trail.forget_server(address.text)
        return
    trail.learn_server(address.text, target, flow)
    if target.media is not None:
        trail.learn_signal(target.media, address.network, flow)
