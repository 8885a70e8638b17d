"""T8 PFDs: what leaves comes back the same, and what a partner sends is understood or refused with its place."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import Application, Catalogue, Pfd
from services.rating.catalogue_exchange import merge
from services.rating.catalogue_files import load_catalogue
from services.rating.catalogue_pfds import entry_of_t8_domain, export_pfds, read_pfds

EXCHANGED = ("domain_names", "urls", "flow_descriptions", "prefixes", "ports")


def catalogue_of(*applications):
    return Catalogue(version="1", applications=applications)


def app(item_id, *pfds):
    return Application(id=item_id, name=item_id, category="voip_im", provider="P", pfds=pfds)


def bodies(catalogue):
    """application -> pfd id -> the lists that are exchanged."""
    return {
        item.id: {pfd.pfd_id: {field: getattr(pfd, field) for field in EXCHANGED} for pfd in item.pfds}
        for item in catalogue.applications
    }


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
# Three labels and more, so that no public suffix is among them.
names = st.builds(
    lambda parts, end: ".".join([*parts, end]), st.lists(labels, min_size=2, max_size=3), st.sampled_from(["com", "de"])
)
entries = st.one_of(
    names,
    names.map(lambda name: f"={name}"),
    names.map(lambda name: f"*.{name}"),
    st.builds(lambda start, name: f"{start}-*.{name}", labels, names),
)
ports = st.builds(
    lambda protocol, low, more: f"{protocol}/{low}" + (f"-{low + more}" if more else ""),
    st.sampled_from(["tcp", "udp"]), st.integers(1, 60_000), st.integers(0, 5_000),
)  # fmt: skip
v4 = st.builds(lambda number, bits: f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.0/{bits}",
               st.integers(0x01000000, 0xDF000000), st.just(24))  # fmt: skip
flows = st.builds(
    lambda prefix, port, protocol: f"permit out {protocol} from {prefix} {port} to assigned",
    v4, st.integers(1, 65_535), st.sampled_from(["tcp", "udp", "ip"]),
)  # fmt: skip
urls = names.map(lambda name: f"^https://{name}/video/")


def unique(strategy):
    return st.lists(strategy, max_size=3, unique=True).map(tuple)


pfd_bodies = st.fixed_dictionaries({
    "domain_names": unique(entries), "urls": unique(urls), "flow_descriptions": unique(flows),
    "prefixes": unique(v4), "ports": unique(ports),
}).filter(lambda body: any(body.values()))  # fmt: skip


@settings(deadline=None)
@given(st.lists(pfd_bodies, min_size=1, max_size=3))
def test_what_is_exported_comes_back_the_same(pfds):
    seen = {}
    for number, body in enumerate(pfds):
        for field, values in body.items():
            body[field] = tuple(value for value in values if seen.setdefault((field, value), number) == number)
    kept = [Pfd(pfd_id=f"p{number}", **body) for number, body in enumerate(pfds) if any(body.values())]
    before = catalogue_of(app("chat", *kept))
    document = json.loads(json.dumps(export_pfds(before).document))
    reading = read_pfds(document, "t8.json")
    merged = merge(catalogue_of(app("chat")), reading.entries, source="partner:x")
    assert reading.refusals == ()
    assert bodies(merged.catalogue) == bodies(before)
    assert export_pfds(merged.catalogue).document == document
    assert all(pfd.source == "partner:x" for pfd in merged.catalogue.applications[0].pfds)


def test_the_shipped_catalogue_survives_the_round_trip():
    shipped = load_catalogue()
    exported = export_pfds(shipped)
    reading = read_pfds(exported.document, "t8.json")
    assert reading.refusals == ()
    skeleton = shipped.model_copy(
        update={"applications": tuple(item.model_copy(update={"pfds": ()}) for item in shipped.applications)}
    )
    merged = merge(skeleton, reading.entries, source="partner:x")
    assert export_pfds(merged.catalogue).document == exported.document
    assert merged.applications == ()
    assert merge(shipped, reading.entries, source="partner:x").brought_in() == 0


DOMAINS = [
    ("example.com", "=example.com"),
    (r"^example\.com$", "=example.com"),
    (r"^(.*\.)?example\.com$", "example.com"),
    (r"(.*\.)?example\.com", "example.com"),
    (r"^.*\.example\.com$", "*.example.com"),
    (r"^.+\.example\.com$", "*.example.com"),
    (r"^(.*\.)?cdn-[^.]*\.example\.com$", "cdn-*.example.com"),
]


@pytest.mark.parametrize(("text", "entry"), DOMAINS, ids=[text for text, _ in DOMAINS])
def test_names_and_the_usual_patterns_are_understood(text, entry):
    assert entry_of_t8_domain(text) == entry


def t8(**pfd):
    return {"pfdDatas": {"chat": {"externalAppId": "chat", "pfds": {"p1": {"pfdId": "p1", **pfd}}}}}


REFUSED = [
    (t8(domainNames=[r".*example.*"]), "'pfdDatas.chat.pfds.p1.domainNames[0]'"),
    (t8(domainNames=[r"^(a+)+\.com$"]), "of no shape that is understood"),
    (t8(domainNames=[r"^(.*\.)?co\.uk$"]), "is a public suffix"),
    (t8(domainNames=[r"^(.*\.)?shop\.comm$"]), "ends in no registered top-level domain"),
    (t8(domainNames=["192.0.2.1"]), "is an address"),
    (t8(domainNames=[7]), "is int, not a string; send a string"),
    (t8(domainNames="example.com"), "is no list; send a list of strings"),
    (t8(domainNames=["example.com"], dnProtocol="TLS_SAN"), "names certificates, which no flow record shows"),
    (t8(domainNames=["example.com"], dnProtocol="TSL_SCN"), "names certificates"),
    (t8(flowDescriptions=["deny out ip from any to any"]), "'pfdDatas.chat.pfds.p1.flowDescriptions[0]'"),
    (t8(flowDescriptions=["permit in ip from any to assigned"]), "fits traffic to anywhere"),
    (t8(flowDescriptions=["permit out udp from any to assigned"]), "fits traffic to anywhere"),
    (t8(flowDescriptions=["permit out ip from 64.0.0.0/2 to assigned"]), "is wider than /8"),
    (t8(urls=[r"^https?://(.*\.)?co\.uk/"]), "is a public suffix"),
    (t8(urls=["http://192.0.2.1/x"]), "is an address"),
    (t8(urls=["^.*$"]), "'pfdDatas.chat.pfds.p1.urls[0]'"),
    ({"pfdDatas": {"chat": {"externalAppId": "chat", "pfds": 7}}}, "'pfdDatas.chat.pfds' is int, not a map"),
    ({"pfdDatas": {"chat": 7}}, "'pfdDatas.chat' is no object with externalAppId"),
    ([7], "'pfdDatas.None' is no object"),
    (7, "'pfdDatas' is int, not a map"),
    (None, "'pfdDatas' is NoneType, not a map"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "expected"), REFUSED, ids=[expected for _, expected in REFUSED])
def test_what_cannot_be_read_is_refused_with_its_place_and_the_rest_is_taken(document, expected):
    reading = read_pfds(document, "t8.json")
    assert reading.entries == ()
    (refusal,) = reading.refusals
    assert expected in str(refusal)
    assert str(refusal).startswith("t8.json: ")


def test_the_good_entries_beside_a_refused_one_are_taken():
    flow = "permit out udp from any 3478 to assigned"
    reading = read_pfds(t8(domainNames=["a b", "example.com"], flowDescriptions=[flow]), "f")
    assert [(entry.field, entry.value) for entry in reading.entries] == [
        ("ports", "udp/3478"), ("domain_names", "=example.com"),
    ]  # fmt: skip
    assert [refusal.text for refusal in reading.refusals] == ["pfdDatas.chat.pfds.p1.domainNames[0]"]


def test_one_pfd_data_and_lists_instead_of_maps_are_read_too():
    data = {"externalAppId": "chat", "pfds": [{"pfdId": "p1", "domainNames": ["Example.COM"]}]}
    assert [entry.value for entry in read_pfds(data, "f").entries] == ["=example.com"]
    assert [entry.value for entry in read_pfds([data], "f").entries] == ["=example.com"]


def test_an_address_alone_and_a_port_alone_stay_as_weak_as_they_are():
    flows = [
        "permit out ip from 192.0.2.0/24 to assigned",
        "permit out udp from any 3478-3481 to assigned",
        "permit out udp from 192.0.2.0/24 3478 to assigned",
        "permit out esp from any to assigned",
    ]
    reading = read_pfds(t8(flowDescriptions=flows), "f")
    assert [(entry.field, entry.value) for entry in reading.entries] == [
        ("prefixes", "192.0.2.0/24"), ("ports", "udp/3478-3481"), ("flow_descriptions", flows[2]),
        ("flow_descriptions", flows[3]),
    ]  # fmt: skip


def test_names_that_strangers_use_do_not_leave_and_are_reported():
    shared = Pfd(pfd_id="cdn", shared=True, domain_names=("cdn.example",), user_agents=("Chat/",), as_numbers=(64500,))
    exported = export_pfds(catalogue_of(app("chat", shared)))
    assert exported.document == {"pfdDatas": {}}
    assert exported.left_out == (
        "chat/cdn: domain_names, since they serve other applications too",
        "chat/cdn: as_numbers",
        "chat/cdn: user_agents",
    )


def test_only_the_asked_applications_leave():
    catalogue = catalogue_of(*(app(name, Pfd(pfd_id="p", domain_names=(f"{name}.com",))) for name in ("one", "two")))
    assert list(export_pfds(catalogue, ["two"]).document["pfdDatas"]) == ["two"]
    with pytest.raises(ValueError, match="'three' is not in the catalogue"):
        export_pfds(catalogue, ["three"])


keys = st.sampled_from(["pfdDatas", "pfds", "domainNames", "urls", "flowDescriptions", "a"])
documents = st.recursive(
    st.none() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
)


@settings(deadline=None)
@given(documents)
def test_no_document_raises(document):
    reading = read_pfds(document, "f")
    merge(catalogue_of(), [entry._replace(application="a") for entry in reading.entries], source="partner:x")
