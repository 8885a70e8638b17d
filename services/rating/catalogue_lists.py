"""Lists that operators already have: v2fly domain lists, nDPI `protos.txt` rules, hosts files.

Each reader takes text and yields entries and refusals with their lines; none ever raises on what a list says.
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from schemas.flow_description import parse_port_range
from services.engine.hostnames import normalise
from services.rating.catalogue_exchange import Entry, EntryField, Reading, Refusal
from services.rating.catalogue_lint import is_shared_suffix, name_problem, width_problem
from services.rating.catalogue_yaml import Location

MAX_INCLUDED_LISTS = 1_000
"""Lists that one list may include, directly or not; the largest public one has some hundreds."""

_LOCAL_NAMES = frozenset(
    ("localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost", "ip6-loopback", "ip6-localnet",
     "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts", "0.0.0.0")  # noqa: S104 (a name in files)
)  # fmt: skip
_NDPI_ITEM = re.compile(
    r'\s*(?:host:"(?P<host>[^"]*)"|(?P<protocol>tcp|udp):(?P<ports>[0-9-]+)|(?:ip|ipv6):(?P<ip>[0-9A-Fa-f:.\[\]/]+))\s*(?:,|$)'
)
_NDPI_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*))"
    r"(?P<bits>/[0-9]{1,3})?(?::(?P<port>[0-9]{1,5}))?"
)


def read_v2fly(
    name: str, load: Callable[[str], str | None], *, application: str | None = None,
    without: Collection[str] = ("ads",),
) -> Reading:  # fmt: skip
    """Entries of the v2fly domain list `name` and of the lists it includes; all belong to one application.

    `load` gives the text of a list by its name, None when there is no such list. `application` is the list's name by
    default. Entries with an attribute in `without` are left out and reported: by default what the list itself calls
    ads. `keyword:` and `regexp:` rules are refused, since they match strangers and cost time.
    """
    reader = _V2fly(load, application or name, name, frozenset(without))
    reader.read(_Asked(name, frozenset(), frozenset()))
    return reader.sink.reading()


def read_ndpi(text: str, file: str) -> Reading:
    """Entries of nDPI rules such as `host:"example.com",tcp:8443@Name`; the application is nDPI's name, as written.

    Host rules mean the name and all below. Rules about risks, certificates and packet filters are refused.
    """
    sink = _Sink()
    for number, line in enumerate(text.splitlines(), 1):
        rule = line.strip()
        if rule and not rule.startswith("#"):
            _read_ndpi_rule(rule, Location(file, number), sink)
    return sink.reading()


def read_hosts(text: str, file: str, *, application: str, suffixes: bool = False) -> Reading:
    """Entries of a hosts file, or of a plain list with one name a line: these very names, or suffixes when asked."""
    sink = _Sink()
    for line in _lines(text, file):
        names = line.words[1:] if _is_address(line.words[0]) else line.words
        for name in names:
            if name.lower() not in _LOCAL_NAMES:
                sink.take_name(application, "hosts", name, line.location, exact=not suffixes)
    return sink.reading()


class _Line(NamedTuple):
    """A line of a list without its comment."""

    location: Location
    words: list[str]


class _Sink:
    """Gathers entries and refusals."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._refusals: list[Refusal] = []

    def take_name(self, application: str, pfd_id: str, name: str, location: Location, *, exact: bool) -> None:
        """Take a domain name, or refuse it."""
        entry = f"{'=' if exact else ''}{normalise(name) or name}"
        problem = name_problem(entry)
        if problem is not None:
            self.refuse(location, name, *problem)
            return
        shared = is_shared_suffix(entry)
        self._entries.append(Entry(application, pfd_id, "domain_names", entry, location, shared))

    def take(self, entry: Entry) -> None:
        """Take an entry that is right already."""
        self._entries.append(entry)

    def refuse(self, location: Location, text: str, rule: str, next_step: str) -> None:
        """Report what cannot be taken."""
        self._refusals.append(Refusal(location, text, rule, next_step))

    def reading(self) -> Reading:
        """All that was gathered."""
        return Reading(tuple(self._entries), tuple(self._refusals))


def _lines(text: str, file: str) -> Iterator[_Line]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            yield _Line(Location(file, number), words)


class _Asked(NamedTuple):
    """A list to be read: only rules with an attribute of `wanted` (if any) and with none of `unwanted`."""

    name: str
    wanted: frozenset[str]
    unwanted: frozenset[str]


class _V2fly:
    """Reads a list, then those that it includes, each once for each filter; a queue, since lists nest without end."""

    def __init__(
        self, load: Callable[[str], str | None], application: str, pfd_id: str, without: frozenset[str]
    ) -> None:
        self.sink = _Sink()
        self._load = load
        self._application = application
        self._pfd_id = pfd_id
        self._without = without
        self._waiting: dict[_Asked, Location] = {}
        self._read: set[_Asked] = set()
        self._taken: set[str] = set()

    def read(self, asked: _Asked) -> None:
        """Read what is asked and all that it includes."""
        self._waiting[asked] = Location(asked.name, 0)
        while self._waiting:
            asked = next(iter(self._waiting))
            location = self._waiting.pop(asked)
            if len(self._read) >= MAX_INCLUDED_LISTS:
                rule = f"is one list too many; at most {MAX_INCLUDED_LISTS}"
                self.sink.refuse(location, asked.name, rule, "split the list")
                return
            self._read.add(asked)
            self._read_list(asked, location)

    def _read_list(self, asked: _Asked, location: Location) -> None:
        text = self._load(asked.name)
        if text is None:
            self.sink.refuse(location, asked.name, "is no list here", "put the file beside the others")
            return
        for line in _lines(text, asked.name):
            self._rule(line, asked)

    def _rule(self, line: _Line, asked: _Asked) -> None:
        kind, colon, value = line.words[0].partition(":")
        if not colon:
            kind, value = "domain", line.words[0]
        attributes = frozenset(word[1:] for word in line.words[1:] if word.startswith("@"))
        if kind == "include":
            minus = frozenset(name for name in attributes if name.startswith("-"))
            included = _Asked(value, attributes - minus, frozenset(name[1:] for name in minus))
            if included not in self._read:
                self._waiting.setdefault(included, line.location)
        elif (not asked.wanted or asked.wanted & attributes) and not asked.unwanted & attributes:
            self._name(kind, value, attributes, line.location)

    def _name(self, kind: str, value: str, attributes: frozenset[str], location: Location) -> None:
        left_out = sorted(attributes & self._without)
        if left_out:
            self.sink.refuse(location, value, f"is marked @{left_out[0]}", "import it on its own if it is wanted")
        elif kind not in {"domain", "full"}:
            step = "list the domains that it stands for"
            self.sink.refuse(location, f"{kind}:{value}", "is no domain: it matches strangers or takes long", step)
        elif (key := f"{kind}:{value.lower()}") not in self._taken:
            self._taken.add(key)
            self.sink.take_name(self._application, self._pfd_id, value, location, exact=kind == "full")


def _read_ndpi_rule(rule: str, location: Location, sink: _Sink) -> None:
    items, at, name = rule.rpartition("@")
    name = name.partition("=")[0].strip()
    if not at or not name or '"' in name:
        sink.refuse(location, rule, "names no application", 'write e.g. host:"example.com"@Name')
        return
    place = 0
    while place < len(items):
        match = _NDPI_ITEM.match(items, place)
        if match is None:
            step = "write host:, tcp:, udp: or ip: items"
            sink.refuse(location, items[place:], "is no rule about names, ports or addresses", step)
            return
        place = match.end()
        _take_ndpi_item(match, name, location, sink)


def _take_ndpi_item(match: re.Match[str], name: str, location: Location, sink: _Sink) -> None:
    if match["host"] is not None:
        host = match["host"].lower().removeprefix(".")
        if "." in host:
            sink.take_name(name, "ndpi", host, location, exact=False)
        else:
            sink.refuse(location, host, "is a keyword: it would match strangers", "write a domain name")
        return
    try:
        field, value = _ndpi_ports(match["protocol"], match["ports"]) if match["ports"] else _ndpi_address(match["ip"])
    except ValueError as error:
        sink.refuse(location, match[0].strip(" ,"), f"cannot be read: {error}", "mend it")
        return
    if problem := width_problem(field, value):
        sink.refuse(location, match[0].strip(" ,"), *problem)
    else:
        sink.take(Entry(name, "ndpi", field, value, location))


def _ndpi_ports(protocol: str, text: str) -> tuple[EntryField, str]:
    first, dash, last = text.partition("-")
    low, high = parse_port_range(text)
    if low == 0:
        raise ValueError("port 0 means nothing")
    return "ports", f"{protocol}/{low}-{high}" if dash and first != last else f"{protocol}/{low}"


def _ndpi_address(text: str) -> tuple[EntryField, str]:
    """`ADDRESS[/BITS][:PORT]`, an IPv6 address in brackets where more follows; host bits are cut as nDPI does."""
    match = _NDPI_ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("it is not ADDRESS/BITS:PORT")
    network = ipaddress.ip_network(f"{match['six'] or match['four']}{match['bits'] or ''}", strict=False)
    if match["port"] is None:
        return "prefixes", str(network)
    low, _ = parse_port_range(match["port"])
    return "flow_descriptions", f"permit out ip from {network} {low} to assigned"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
