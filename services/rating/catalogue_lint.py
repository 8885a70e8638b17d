"""What a catalogue can say that is allowed and yet a mistake: entries that never match, or match strangers.

This file looks at applications; `services.rating.tariff_lint` at offerings, rules and campaigns.

Every finding has a code, the file and line, and the next step. docs/catalogue.md lists the codes.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from publicsuffixlist import PublicSuffixList

from schemas.catalogue import DETECTORS, Application, Pfd
from schemas.flow_description import PROTOCOLS, FlowDescription, parse_flow_description, parse_ports, parse_prefix
from services.engine.classify_patterns import entry_of_domain, entry_of_url
from services.engine.hostnames import SuffixTable, is_address, normalise
from services.rating.catalogue_files import CatalogueFilesError, CatalogueSource, read_catalogue
from services.rating.catalogue_yaml import Location
from services.rating.clock import Clock, wall_clock_ms
from services.rating.findings import Finding
from services.rating.tariff_lint import lint_tariff

_LIST_FIELDS = (
    "domain_names", "urls", "flow_descriptions", "prefixes", "as_numbers", "ports", "ip_protocols", "stun_realms",
    "user_agents", "content_types", "exporter_ids",
)  # fmt: skip


def lint_folder(folder: Path | Traversable | None = None, *, clock: Clock = wall_clock_ms) -> list[Finding]:
    """Findings over the catalogue files of a folder (default: the shipped ones), also when they are no catalogue."""
    try:
        source = read_catalogue(folder)
    except CatalogueFilesError as error:
        return [_malformed(problem.location, str(problem)) for problem in error.problems]
    return lint_catalogue(source, at_ms=clock())


def lint_catalogue(source: CatalogueSource, *, at_ms: int) -> list[Finding]:
    """All findings over a catalogue, by file and line. What cannot be loaded never gets here: see `lint_folder`."""
    findings = [finding for rule in RULES.values() for finding in rule(source)] + lint_tariff(source, at_ms=at_ms)
    return sorted(findings, key=lambda finding: (finding.location.file, finding.location.line, finding.code))


class _Entry(NamedTuple):
    """One value of one list of one PFD, and where it stands."""

    application: Application
    pfd: Pfd
    value: str
    location: Location


def _entries(source: CatalogueSource, field: str) -> Iterator[_Entry]:
    """The values of a PFD list over all applications, in the order of files and lines."""
    found = [
        _Entry(item, pfd, str(value), source.locate("applications", item.id, ("pfds", place, field, index)))
        for item in source.catalogue.applications
        for place, pfd in enumerate(item.pfds)
        for index, value in enumerate(getattr(pfd, field))
    ]
    yield from sorted(found, key=lambda entry: (entry.location.file, entry.location.line))


def duplicates(source: CatalogueSource) -> Iterator[Finding]:
    """The same value detects twice: only one of the two can win, and nobody sees which."""
    for field in _LIST_FIELDS:
        seen: dict[str, _Entry] = {}
        for entry in _entries(source, field):
            first = seen.setdefault(_meaning(field, entry.value), entry)
            if first is not entry:
                yield Finding(
                    "duplicate", entry.location,
                    f"{field} {entry.value!r} of {entry.application.id!r} is an entry of {first.application.id!r} "
                    f"already, at {first.location}",
                    "keep one",
                )  # fmt: skip
    yield from _duplicate_exporter_ids(source)


def shadowed_names(source: CatalogueSource) -> Iterator[Finding]:
    """A name right under a suffix of the same application that says the same of it: it changes nothing."""
    entries = list(_entries(source, "domain_names"))
    # Backwards, so that of two owners the first is kept, as the look-up table does.
    suffixes = {entry.value: entry for entry in reversed(entries) if not entry.value.startswith(("=", "*"))}
    for entry in entries:
        cover = _nearest_cover(entry.value, suffixes)
        if cover is not None and cover.application is entry.application and _says(cover.pfd) == _says(entry.pfd):
            yield Finding(
                "shadowed", entry.location,
                f"{entry.value!r} of {entry.application.id!r} is covered by {cover.value!r} at {cover.location}",
                "remove it, or give it its own service",
            )  # fmt: skip


def public_suffixes(source: CatalogueSource) -> Iterator[Finding]:
    """A name under which strangers register or put their content, or under no registry at all."""
    for field, entry_of in _NAMES.items():
        for entry in _entries(source, field):
            problem = _suffix_problem(entry_of(entry.value))
            if problem is not None and not (problem[0] == "shared-suffix" and entry.pfd.shared):
                code, rule, step = problem
                yield Finding(code, entry.location, f"{entry.value!r} of {entry.application.id!r} {rule}", step)


def without_evidence(source: CatalogueSource) -> Iterator[Finding]:
    """An application that nothing can detect, so that no flow ever belongs to it."""
    for item in source.catalogue.applications:
        if not (item.exporter_ids or any(getattr(pfd, field) for pfd in item.pfds for field in DETECTORS)):
            location = source.locate("applications", item.id)
            yield Finding("no-evidence", location, f"nothing detects application {item.id!r}", "give it a PFD")


def syntax(source: CatalogueSource) -> Iterator[Finding]:
    """A host that is not written as it is compared, or a pattern or a range that cannot be read."""
    for field, check in _SYNTAX.items():
        for entry in _entries(source, field):
            problem = check(entry.value)
            if problem is not None:
                yield Finding("syntax", entry.location, f"{field} {entry.value!r} {problem[0]}", problem[1])


def unusable(source: CatalogueSource) -> Iterator[Finding]:
    """A name or URL that no classifier would take, for a reason that no other check tells."""
    for field, entry_of in _NAMES.items():
        for entry in _entries(source, field):
            name = entry_of(entry.value)
            if _SYNTAX[field](entry.value) is None and _suffix_problem(name) is None:
                try:
                    SuffixTable([(name, None)])
                except ValueError as error:
                    rule, _, step = str(error).rpartition("; ")
                    yield Finding("unusable", entry.location, f"{field} {entry.value!r}: {rule}", step)


def too_wide(source: CatalogueSource) -> Iterator[Finding]:
    """Addresses or ports that no single application has: the entry would claim strangers' traffic."""
    for field in _READ_RANGE:
        for entry in _entries(source, field):
            problem = width_problem(field, entry.value)
            if problem is not None:
                yield Finding("too-wide", entry.location, f"{field} {entry.value!r} {problem[0]}", problem[1])


def pfd_ids(source: CatalogueSource) -> Iterator[Finding]:
    """Two PFDs of one application with one id: an exchange of PFDs would keep only one."""
    for item in source.catalogue.applications:
        seen: set[str] = set()
        for place, pfd in enumerate(item.pfds):
            if pfd.pfd_id in seen:
                location = source.locate("applications", item.id, ("pfds", place))
                yield Finding("pfd-id", location, f"application {item.id!r} has two PFDs {pfd.pfd_id!r}", "rename one")
            seen.add(pfd.pfd_id)


RULES: Mapping[str, Callable[[CatalogueSource], Iterator[Finding]]] = {
    "duplicate": duplicates,
    "shadowed": shadowed_names,
    "public-suffix": public_suffixes,
    "no-evidence": without_evidence,
    "syntax": syntax,
    "unusable": unusable,
    "too-wide": too_wide,
    "pfd-id": pfd_ids,
}
"""The checks by their main code; `public-suffix` also yields `no-registry` and `shared-suffix`."""


def name_problem(entry: str) -> tuple[str, str] | None:
    """Why a domain name entry cannot stand in a catalogue, as (rule, next step); None when it can."""
    written = _spelling_problem(entry)
    if written is not None:
        return written
    suffix = _suffix_problem(entry)
    return None if suffix is None or suffix[0] == "shared-suffix" else suffix[1:]


def width_problem(field: str, value: str) -> tuple[str, str] | None:
    """Why a prefix, port range or flow description covers more than one application can have; None when it does not.

    As (rule, next step). What cannot be read is not looked at here.
    """
    try:
        protocol, network, ports = _READ_RANGE[field](value)
    except ValueError:
        return None
    if network is not None:
        widest = _WIDEST_PREFIX[network.version]
        rule = f"is wider than /{widest}: strangers have addresses there"
        return (rule, "name the application's own networks") if network.prefixlen < widest else None
    if protocol in _WITH_PORTS and (not ports or sum(high - low + 1 for low, high in ports) > _MOST_PORTS):
        return f"fits traffic to anywhere at more than {_MOST_PORTS} ports", "name addresses, or fewer ports"
    return None


def is_shared_suffix(entry: str) -> bool:
    """True for a name below which strangers put their content: it must stand in a PFD that is `shared`."""
    problem = _suffix_problem(entry)
    return problem is not None and problem[0] == "shared-suffix"


def _malformed(location: Location, text: str) -> Finding:
    return Finding("malformed", location, text.removeprefix(f"{location}: "), "")


def _meaning(field: str, value: str) -> str:
    """Two values that detect the same have the same meaning, however they are written."""
    return value if field in {"urls", "flow_descriptions"} else value.lower()


def _duplicate_exporter_ids(source: CatalogueSource) -> Iterator[Finding]:
    """Exporters' names stand with the application, too; a service of it may refine one, a stranger may not."""
    owners: dict[str, str] = {}
    for item in source.catalogue.applications:
        for name in [*item.exporter_ids, *(name for pfd in item.pfds for name in pfd.exporter_ids)]:
            owner = owners.setdefault(name.lower(), item.id)
            if owner != item.id:
                message = f"exporter id {name!r} of {item.id!r} is one of {owner!r} already"
                yield Finding(
                    "duplicate", source.locate("applications", item.id, ("exporter_ids",)), message, "keep one"
                )


def _nearest_cover(entry: str, suffixes: Mapping[str, _Entry]) -> _Entry | None:
    name = entry.lstrip("=")
    rest = name if entry.startswith("=") else name.partition(".")[2]
    while rest:
        if rest in suffixes:
            return suffixes[rest]
        rest = rest.partition(".")[2]
    return None


def _says(pfd: Pfd) -> tuple[object, ...]:
    """All that a name says beside the application."""
    return pfd.service, pfd.category, pfd.shared, pfd.public_name, pfd.source


def _bare(entry: str) -> str:
    """The name behind `=`, `*.` or a label with a star."""
    label, _, rest = entry.partition(".")
    return rest if "*" in label else entry.removeprefix("=")


@functools.cache
def _suffix_lists() -> tuple[PublicSuffixList, PublicSuffixList]:
    """The registries' suffixes alone, and these with the ones of hosts who let strangers in."""
    return (
        PublicSuffixList(accept_unknown=False, only_icann=True),
        PublicSuffixList(accept_unknown=False),
    )


def _suffix_problem(entry: str) -> tuple[str, str, str] | None:
    """(code, rule, next step) of a name that covers strangers or nobody; None for any other and for exact names."""
    name = _bare(entry)
    if entry.startswith("=") or normalise(name) is None or is_address(name):
        return None
    registry, everything = _suffix_lists()
    if registry.publicsuffix(name) is None:
        return "no-registry", "ends in no registered top-level domain", "mend its spelling"
    if registry.is_public(name):
        return "public-suffix", "is a public suffix: strangers register below it", "name the domain"
    if "*" not in entry and everything.is_public(name):
        step = "name the tenant, or mark the PFD `shared: true`"
        return "shared-suffix", "is where strangers put their own content", step
    return None


def _spelling_problem(entry: str) -> tuple[str, str] | None:
    try:
        if entry_of_domain(entry) != entry:
            return "is a pattern", f"write {entry_of_domain(entry)!r}"
    except ValueError as error:
        return "is no domain name", str(error).rpartition("; ")[2]
    name = _bare(entry)
    normal = normalise(name)
    if normal is None:
        return "is no host name", "write it as example.com, *.example.com or =name"
    if is_address(normal):
        return "is an address", "move it to `prefixes`"
    return None if normal == name else ("is not as names are compared", f"write {entry.replace(name, normal)!r}")


def _readable(parse: Callable[[str], object]) -> Callable[[str], tuple[str, str] | None]:
    def check(value: str) -> tuple[str, str] | None:
        try:
            parse(value)
        except ValueError as error:
            rule, _, step = str(error).rpartition("; ")
            return f"cannot be read: {rule}", step
        return None

    return check


_NOBODYS_SYSTEMS = frozenset(("23456", "65535", "4294967295"))
"""AS numbers that no network has: they stand for others or are reserved (RFC 6793, RFC 7300)."""


def _system_problem(value: str) -> tuple[str, str] | None:
    return ("is no network's own number", "remove it") if value in _NOBODYS_SYSTEMS else None


_WIDEST_PREFIX = {4: 8, 6: 16}
"""Bits of the largest networks that one organisation has."""

_MOST_PORTS = 16_384
_WITH_PORTS = frozenset((None, PROTOCOLS["tcp"], PROTOCOLS["udp"]))


def _port_range(text: str) -> FlowDescription:
    protocol, ports = parse_ports(text)
    return FlowDescription(protocol, None, (ports,))


_READ_RANGE: Mapping[str, Callable[[str], FlowDescription]] = {
    "prefixes": lambda text: FlowDescription(None, parse_prefix(text), ()),
    "ports": _port_range,
    "flow_descriptions": parse_flow_description,
}


def _entry_of_url(pattern: str) -> str:
    """The name that a URL pattern stands for in the table; the pattern itself when it stands for none."""
    try:
        return entry_of_url(pattern)[0]
    except ValueError:
        return pattern


_NAMES: Mapping[str, Callable[[str], str]] = {"domain_names": str, "urls": _entry_of_url}
"""The lists that end in the table of names, and what stands there for a value."""

_SYNTAX: Mapping[str, Callable[[str], tuple[str, str] | None]] = {
    "domain_names": _spelling_problem,
    "urls": _readable(entry_of_url),
    "prefixes": _readable(parse_prefix),
    "ports": _readable(parse_ports),
    "as_numbers": _system_problem,
}
