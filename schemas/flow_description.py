"""Flow descriptions of PFDs: the part of IPFilterRule (RFC 6733 section 4.3.1) that TS 29.122 and 29.251 allow.

    permit out udp from 203.0.113.0/24 3478,3480-3481 to assigned

`out` is towards the subscriber, so the server is the source; with `in` it is the destination. Ports of the
subscriber's side, negation, options and `deny` are refused: a packet flow description only says what is allowed in.
"""

import ipaddress
from typing import NamedTuple

PROTOCOLS = {"ip": None, "icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "sctp": 132}
"""Names that stand for protocol numbers; None = any."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PortRange = tuple[int, int]


class FlowDescription(NamedTuple):
    """Server side of a flow: protocol number or None, network or None, port ranges (both ends inclusive) or none.

    None and no ranges mean any. A network of no bits is any, too.
    """

    protocol: int | None
    network: Network | None
    ports: tuple[PortRange, ...]


def parse_flow_description(text: str) -> FlowDescription:
    """What an IPFilterRule says. Raises ValueError naming the rule, the word that broke it and what to write."""
    words = text.split()
    try:
        action, direction, protocol, source, destination = _clauses(words)
        if action != "permit" or direction not in {"in", "out"}:
            raise ValueError("it must begin with 'permit in' or 'permit out'")
        server, subscriber = (source, destination) if direction == "out" else (destination, source)
        if len(subscriber) != 1 or subscriber[0] not in {"any", "assigned"}:
            raise ValueError(f"the subscriber's side {' '.join(subscriber)!r} must be 'assigned' or 'any'")
        ports = tuple(parse_port_range(part) for word in server[1:] for part in word.split(","))
        return FlowDescription(_protocol(protocol), _network(server[0]), ports)
    except ValueError as error:
        example = "permit out udp from 203.0.113.0/24 3478 to assigned"
        raise ValueError(f"flow description {text!r}: {error}; write e.g. {example!r}") from None


def parse_ports(text: str) -> tuple[int, PortRange]:
    """Protocol number and inclusive port range of `udp/3478` or `tcp/5222-5223`. Raises ValueError."""
    name, _, ports = text.partition("/")
    if name not in {"tcp", "udp"}:
        raise ValueError(f"ports {text!r}: {name!r} is not tcp or udp; write e.g. 'udp/3478' or 'udp/19302-19309'")
    return (6 if name == "tcp" else 17), parse_port_range(ports)


def parse_port_range(text: str) -> PortRange:
    """Both ends, inclusive, of `3478` or `19302-19309`. Raises ValueError."""
    first, dash, last = text.partition("-")
    ends = (first, last if dash else first)
    if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends):
        raise ValueError(f"{text!r} is no port; write 0 to 65535, or a range such as 19302-19309")
    low, high = int(ends[0]), int(ends[1])
    if not 0 <= low <= high <= 65_535:
        raise ValueError(f"{text!r} is no port range; both ends lie in 0 to 65535 and the lower comes first")
    return low, high


def parse_prefix(text: str) -> Network:
    """The network of `203.0.113.0/24` or one address. Raises ValueError, also when host bits are set."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"prefix {text!r}: {error}; write e.g. '203.0.113.0/24' or '2001:db8::/32'") from None


def _clauses(words: list[str]) -> tuple[str, str, str, list[str], list[str]]:
    if len(words) < 7 or words[3] != "from" or "to" not in words:
        raise ValueError("it needs action, direction, protocol, 'from' address, 'to' address")
    middle = words.index("to")
    source, destination = words[4:middle], words[middle + 1 :]
    if not source or not destination:
        raise ValueError("an address is missing beside 'from' or 'to'")
    return words[0], words[1], words[2], source, destination


def _protocol(word: str) -> int | None:
    if word in PROTOCOLS:
        return PROTOCOLS[word]
    if word.isascii() and word.isdigit() and len(word) <= 3 and int(word) <= 255:
        return int(word)
    raise ValueError(f"protocol {word!r} is not 'ip', a number up to 255, or one of {', '.join(PROTOCOLS)}")


def _network(word: str) -> Network | None:
    network = None if word in {"any", "assigned"} else parse_prefix(word)
    return network if network is not None and network.prefixlen else None
