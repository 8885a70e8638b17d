r"""T8 PFD management (TS 29.122 clause 5.11): the shapes `PfdManagement`, `PfdData`, `Pfd`, both ways.

What crosses: names, URLs, flow descriptions; address prefixes and ports as the flow descriptions that mean the same.
A bare FQDN means that name alone, as a pattern `^(.*\.)?example\.com$` means it and all below. Names that strangers
use too do not leave: the receiver would take them for proof.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from schemas.catalogue import Catalogue, Pfd
from schemas.flow_description import PROTOCOLS, FlowDescription, parse_flow_description, parse_ports
from services.engine.classify_patterns import entry_of_domain, entry_of_url
from services.engine.hostnames import normalise
from services.rating.catalogue_exchange import Entry, EntryField, Reading, Refusal
from services.rating.catalogue_lint import is_shared_suffix, name_problem, width_problem
from services.rating.catalogue_yaml import Location

CERTIFICATE_NAMES = frozenset(("TLS_SAN", "TLS_SCN", "TSL_SCN"))
"""Values of dnProtocol that mean the server's certificate, which no flow record shows. `TSL_SCN` is the enum's typo."""

_TENANT = re.compile(r"\^\(\.\*\\\.\)\?([a-z0-9_-]*)\[\^\.\]\*([a-z0-9_-]*)((?:\\\.[a-z0-9_-]+)+)\$")
_ANYWHERE = "permit out {} from any {} to assigned"
_NETWORK = "permit out ip from {} to assigned"


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """A `PfdManagement` document, and what of the asked applications it cannot say."""

    document: dict[str, Any]
    left_out: tuple[str, ...]


def export_pfds(catalogue: Catalogue, applications: Collection[str] = ()) -> Exported:
    """The PFDs of `applications` (all when empty) as a T8 document. Raises ValueError for an id that is not there."""
    unknown = sorted(set(applications) - {item.id for item in catalogue.applications})
    if unknown:
        raise ValueError(f"application {unknown[0]!r} is not in the catalogue; `catalogue show` lists them")
    datas: dict[str, Any] = {}
    left_out: list[str] = []
    for item in catalogue.applications:
        if applications and item.id not in applications:
            continue
        pfds = {pfd.pfd_id: body for pfd in item.pfds if (body := _export_pfd(pfd))}
        left_out += [f"{item.id}/{pfd.pfd_id}: {what}" for pfd in item.pfds for what in _left_out(pfd)]
        if pfds:
            datas[item.id] = {"externalAppId": item.id, "pfds": pfds}
    return Exported({"pfdDatas": datas}, tuple(left_out))


def read_pfds(document: object, file: str) -> Reading:
    """Entries of a T8 document: a whole `PfdManagement`, its `pfdDatas` alone, or one `PfdData`. Never raises."""
    reader = _PfdReader(file)
    reader.read(document)
    return Reading(tuple(reader.entries), tuple(reader.refusals))


def entry_of_t8_domain(text: str) -> str:
    """The catalogue's entry for one of `domainNames`: an FQDN is itself alone. Raises ValueError for other patterns."""
    if tenant := _TENANT.fullmatch(text):
        return f"{tenant[1]}*{tenant[2]}{tenant[3]}".replace("\\", "")
    entry = entry_of_domain(text)
    return f"={entry}" if entry == text and not entry.startswith(("=", "*")) else entry


def _export_pfd(pfd: Pfd) -> dict[str, Any]:
    """The PFD's body, empty when nothing of it can be said."""
    flows = [
        *pfd.flow_descriptions,
        *(_NETWORK.format(prefix) for prefix in pfd.prefixes),
        *(_ANYWHERE.format(*ports.split("/")) for ports in pfd.ports),
    ]
    names = [] if _is_weak(pfd) else [_t8_domain(name) for name in pfd.domain_names]
    body = {"flowDescriptions": flows, "urls": list(pfd.urls), "domainNames": names}
    filled = {key: value for key, value in body.items() if value}
    return {"pfdId": pfd.pfd_id, **filled} if filled else {}


def _t8_domain(entry: str) -> str:
    """The FQDN or pattern of an entry. Labels hold letters, digits, `_` and `-`, so only dots need a backslash."""
    if entry.startswith("="):
        return entry[1:]
    label, _, rest = entry.replace(".", r"\.").partition(r"\.")
    if label == "*":
        return rf"^.+\.{rest}$"
    if "*" in label:
        return rf"^(.*\.)?{label.replace('*', '[^.]*')}\.{rest}$"
    return rf"^(.*\.)?{label}\.{rest}$"


def _left_out(pfd: Pfd) -> Iterator[str]:
    if _is_weak(pfd) and pfd.domain_names:
        yield "domain_names, since they serve other applications too"
    for field in ("as_numbers", "ip_protocols", "stun_realms", "user_agents", "content_types", "behaviours"):
        if getattr(pfd, field):
            yield field


def _is_weak(pfd: Pfd) -> bool:
    return pfd.shared or pfd.public_name


class _PfdReader:
    """Walks a document and keeps what it can; `path` says where in the document something stood."""

    def __init__(self, file: str) -> None:
        self.entries: list[Entry] = []
        self.refusals: list[Refusal] = []
        self._location = Location(file, 0)

    def read(self, document: object) -> None:
        for key, data, path in self._members(self._datas(document), "pfdDatas", "externalAppId"):
            for pfd_id, pfd, inner in self._members(data.get("pfds"), f"{path}.pfds", "pfdId"):
                self._read_pfd(key, pfd_id, pfd, inner)

    def _datas(self, document: object) -> object:
        if not isinstance(document, dict):
            return document
        if "externalAppId" in document:
            return [document]
        return document.get("pfdDatas", document)

    def _members(self, value: object, path: str, id_key: str) -> Iterator[tuple[str, dict[str, Any], str]]:
        """(id, object, path) of a map by id, or of a list of objects that carry theirs."""
        if isinstance(value, dict):
            pairs: Iterable[tuple[object, object]] = value.items()
        elif isinstance(value, list):
            pairs = [(item.get(id_key) if isinstance(item, dict) else None, item) for item in value]
        else:
            self._refuse(path, f"is {type(value).__name__}, not a map of objects by {id_key}", "send a T8 document")
            return
        for key, item in pairs:
            if isinstance(item, dict) and isinstance(key, str) and key:
                yield key, item, f"{path}.{key}"
            else:
                self._refuse(f"{path}.{key}", f"is no object with {id_key}", "send a T8 document")

    def _read_pfd(self, application: str, pfd_id: str, pfd: Mapping[str, Any], path: str) -> None:
        for key, convert in _CONVERTERS.items():
            values = pfd.get(key, [])
            if not isinstance(values, list):
                self._refuse(f"{path}.{key}", "is no list", "send a list of strings")
                continue
            if key == "domainNames" and pfd.get("dnProtocol") in CERTIFICATE_NAMES:
                self._refuse(f"{path}.{key}", "names certificates, which no flow record shows", "send them as TLS_SNI")
                continue
            for index, value in enumerate(values):
                self._read_value(application, pfd_id, f"{path}.{key}[{index}]", value, convert)

    def _read_value(
        self, application: str, pfd_id: str, path: str, value: object,
        convert: Callable[[str], tuple[EntryField, str]],
    ) -> None:  # fmt: skip
        if not isinstance(value, str):
            self._refuse(path, f"is {type(value).__name__}, not a string", "send a string")
            return
        try:
            field, text = convert(value)
        except ValueError as error:
            rule, _, step = str(error).rpartition("; ")
            self._refuse(path, rule, step)
            return
        shared = field == "domain_names" and is_shared_suffix(text)
        self.entries.append(Entry(application, pfd_id, field, text, self._location, shared))

    def _refuse(self, path: str, rule: str, next_step: str) -> None:
        self.refusals.append(Refusal(self._location, path, rule, next_step))


def _domain(text: str) -> tuple[EntryField, str]:
    entry = entry_of_t8_domain(text)
    name = entry.removeprefix("=")
    normal = normalise(name) if "*" not in name else name.lower()
    found = entry.replace(name, normal) if normal else entry
    if problem := name_problem(found):
        raise ValueError(f"domain name {text!r} {problem[0]}; {problem[1]}")
    return "domain_names", found


def _url(text: str) -> tuple[EntryField, str]:
    entry, _ = entry_of_url(text)
    if problem := name_problem(entry):
        raise ValueError(f"URL {text!r} {problem[0]}; {problem[1]}")
    return "urls", text


def _flow(text: str) -> tuple[EntryField, str]:
    """Address alone and port alone become prefixes and ports: as weak as these are, whoever sent them."""
    flow = parse_flow_description(text)
    if problem := width_problem("flow_descriptions", text):
        raise ValueError(f"flow description {text!r} {problem[0]}; {problem[1]}")
    if flow.protocol is None and flow.network is not None and not flow.ports:
        return "prefixes", str(flow.network)
    if flow.network is None and (ports := _ports(flow)) is not None:
        return "ports", ports
    return "flow_descriptions", text


def _ports(flow: FlowDescription) -> str | None:
    if flow.protocol not in (PROTOCOLS["tcp"], PROTOCOLS["udp"]) or len(flow.ports) != 1:
        return None
    low, high = flow.ports[0]
    text = f"{'tcp' if flow.protocol == PROTOCOLS['tcp'] else 'udp'}/{low if low == high else f'{low}-{high}'}"
    parse_ports(text)
    return text


_CONVERTERS: Mapping[str, Callable[[str], tuple[EntryField, str]]] = {
    "flowDescriptions": _flow,
    "urls": _url,
    "domainNames": _domain,
}
