"""Lists into a catalogue: what each format says, who keeps a contested entry, and where everything came from."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import Application, Catalogue, Pfd
from services.rating.catalogue_exchange import Entry, Target, application_id, exporter_names, merge
from services.rating.catalogue_files import load_catalogue
from services.rating.catalogue_lists import MAX_INCLUDED_LISTS, read_hosts, read_ndpi, read_v2fly
from services.rating.catalogue_yaml import Location

BASE = Catalogue(
    version="1",
    applications=(
        Application(
            id="chat", name="Chat", category="voip_im", provider="C", exporter_ids=("ndpi:Chat",),
            pfds=(
                Pfd(pfd_id="names", domain_names=("chat.com", "=www.chat.net"), prefixes=("192.0.2.0/24",)),
                Pfd(pfd_id="call", service="call", category="voip_im", domain_names=("call.com",),
                    exporter_ids=("ndpi:ChatCall",)),
            ),
        ),
        Application(id="film", name="Film", category="streaming", pfds=(Pfd(pfd_id="p", domain_names=("film.com",)),)),
    ),
)  # fmt: skip


def entry(application, value, field="domain_names", pfd_id="list", shared=False):
    return Entry(application, pfd_id, field, value, Location("l", 1), shared)


def values(reading):
    return [(item.field, item.value) for item in reading.entries]


def v2fly(**lists):
    return read_v2fly("main", lists.get)


V2FLY = [
    ("chat.com", ["chat.com"]),
    ("domain:chat.com", ["chat.com"]),
    ("full:www.chat.com", ["=www.chat.com"]),
    ("  CHAT.com  # the site\n\n# nothing", ["chat.com"]),
    ("chat.com @cn @other\nchat.net &another", ["chat.com", "chat.net"]),
    ("chat.com\ndomain:chat.com", ["chat.com"]),
    ("bücher.de", ["xn--bcher-kva.de"]),
]


@pytest.mark.parametrize(("text", "expected"), V2FLY, ids=[text for text, _ in V2FLY])
def test_domain_lists_say_names(text, expected):
    reading = v2fly(main=text)
    assert values(reading) == [("domain_names", value) for value in expected]
    assert reading.refusals == ()
    assert {item.application for item in reading.entries} == {"main"}


V2FLY_REFUSED = [
    ("keyword:chat", "main:1: 'keyword:chat' is no domain: it matches strangers or takes long"),
    ("regexp:^chat.*\\.com$", "is no domain"),
    ("\n\nregex:chat", "main:3: "),
    ("ads.chat.com @ads", "'ads.chat.com' is marked @ads"),
    ("include:gone", "main:1: 'gone' is no list here"),
    ("co.uk", "is a public suffix"),
    ("chat.comm", "ends in no registered top-level domain"),
    ("192.0.2.1", "is an address; move it to `prefixes`"),
]


@pytest.mark.parametrize(("text", "expected"), V2FLY_REFUSED, ids=[text for text, _ in V2FLY_REFUSED])
def test_what_a_domain_list_says_beyond_names_is_refused_and_reported(text, expected):
    reading = v2fly(main=text)
    assert reading.entries == ()
    (refusal,) = reading.refusals
    assert expected in str(refusal)


def test_included_lists_are_read_with_their_filters_and_their_own_lines():
    reading = v2fly(
        main="include:all\ninclude:some @cn\ninclude:others @-cn",
        all="a.com @cn\nb.com",
        some="c.com @cn\nd.com",
        others="e.com @cn\nf.com",
    )
    assert [item.value for item in reading.entries] == ["a.com", "b.com", "c.com", "f.com"]
    assert str(reading.entries[3].location) == "others:2"


def test_lists_that_include_each_other_end():
    reading = v2fly(main="include:other\na.com", other="include:main\nb.com")
    assert [item.value for item in reading.entries] == ["a.com", "b.com"]


def test_endless_inclusion_is_refused():
    reading = read_v2fly("0", lambda name: f"include:{int(name) + 1}" if int(name) < 10**6 else None)
    (refusal,) = reading.refusals
    assert f"at most {MAX_INCLUDED_LISTS}" in str(refusal)


def test_a_shared_host_in_a_list_stays_weak():
    (item,) = v2fly(main="github.io").entries
    assert item.shared
    (created,) = merge(BASE, [item], source="list:x").applications
    assert [(pfd.pfd_id, pfd.shared) for pfd in created.pfds] == [("main-shared", True)]


NDPI = [
    ('host:"chat.com"@Chat', [("domain_names", "chat.com")]),
    ('host:"chat.com",host:"*.chat.net",host:".chat.org"@Chat',
     [("domain_names", "chat.com"), ("domain_names", "*.chat.net"), ("domain_names", "chat.org")]),
    ("tcp:81,udp:5061-5062@Chat=7", [("ports", "tcp/81"), ("ports", "udp/5061-5062")]),
    ("ip:192.0.2.7@Chat", [("prefixes", "192.0.2.7/32")]),
    ("ip:192.0.2.7/24@Chat", [("prefixes", "192.0.2.0/24")]),
    ("ip:192.0.2.7/32:443@Chat", [("flow_descriptions", "permit out ip from 192.0.2.7/32 443 to assigned")]),
    ("ip:192.0.2.7:443@Chat", [("flow_descriptions", "permit out ip from 192.0.2.7/32 443 to assigned")]),
    ("ipv6:[2001:db8::1]/32:443@Chat", [("flow_descriptions", "permit out ip from 2001:db8::/32 443 to assigned")]),
    ("ip:2001:db8::/32@Chat", [("prefixes", "2001:db8::/32")]),
    ("# tcp:81@Chat\n\n", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), NDPI, ids=[text for text, _ in NDPI])
def test_ndpi_rules_say_names_ports_and_addresses(text, expected):
    reading = read_ndpi(text, "protos.txt")
    assert values(reading) == expected
    assert reading.refusals == ()


NDPI_REFUSED = [
    ('host:"chat"@Chat', "'chat' is a keyword"),
    ('host:"co.uk"@Chat', "is a public suffix"),
    ("tcp:81", "names no application"),
    ("tcp:81@", "names no application"),
    ('nbpf:"host 192.168.1.1 and port 80"@HomeRouter', "is no rule about names, ports or addresses"),
    ('host_risk_mask:".home"=0', "names no application"),
    ("tcp:70000@Chat", "cannot be read"),
    ("udp:1-65535@Chat", "fits traffic to anywhere"),
    ("ip:0.0.0.0/0@Chat", "is wider than /8"),
    ("tcp:0@Chat", "port 0 means nothing"),
    ("udp:-@Chat", "cannot be read"),
    ("ip:300.0.0.1@Chat", "cannot be read"),
    ("ip:192.0.2.7:70000@Chat", "cannot be read"),
    ("ip:::::@Chat", "cannot be read"),
    ('trusted_issuer_dn:"CN=1, O=Code42"', "names no application"),
]


@pytest.mark.parametrize(("text", "expected"), NDPI_REFUSED, ids=[text for text, _ in NDPI_REFUSED])
def test_other_ndpi_rules_are_refused_with_their_line(text, expected):
    reading = read_ndpi(f"\n{text}\n", "protos.txt")
    assert reading.entries == ()
    (refusal,) = reading.refusals
    assert expected in str(refusal)
    assert str(refusal).startswith("protos.txt:2: ")


def test_ndpi_names_are_those_that_exporters_use():
    reading = read_ndpi('host:"one.com"@CHAT\nhost:"two.com"@ChatCall\nhost:"three.com"@NewThing', "protos.txt")
    names = exporter_names(BASE, "ndpi")
    assert names == {"chat": Target("chat"), "chatcall": Target("chat", "call")}
    merged = merge(BASE, reading.entries, source="list:ndpi", names=names, category="social")
    chat = merged.catalogue.applications[0]
    assert [(pfd.service, pfd.domain_names) for pfd in chat.pfds[2:]] == [(None, ("one.com",)), ("call", ("two.com",))]
    (created,) = merged.applications
    assert (created.id, created.category) == ("newthing", "social")


def test_every_ndpi_name_of_the_shipped_catalogue_finds_its_application():
    shipped = load_catalogue()
    names = exporter_names(shipped, "ndpi")
    assert names["whatsappcall"] == Target("whatsapp", "call")
    assert names["youtubeupload"] == Target("youtube", "upload")


HOSTS = [
    ("0.0.0.0 ads.chat.com # a comment", ["=ads.chat.com"]),
    ("127.0.0.1 one.com two.com", ["=one.com", "=two.com"]),
    ("::1 localhost ip6-localhost", []),
    ("fe80::1%lo0 localhost", []),
    ("ads.chat.com", ["=ads.chat.com"]),
    ("# nothing\n\n", []),
]


@pytest.mark.parametrize(("text", "expected"), HOSTS, ids=[text for text, _ in HOSTS])
def test_hosts_files_say_exact_names(text, expected):
    reading = read_hosts(text, "hosts", application="ads")
    assert [item.value for item in reading.entries] == expected
    assert reading.refusals == ()


def test_hosts_files_may_be_taken_for_suffixes():
    reading = read_hosts("0.0.0.0 ads.chat.com\n0.0.0.0 co.uk", "hosts", application="ads", suffixes=True)
    assert [item.value for item in reading.entries] == ["ads.chat.com"]
    assert [refusal.text for refusal in reading.refusals] == ["co.uk"]


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_list_raises(text):
    read_hosts(text, "f", application="a")
    read_ndpi(text, "f")
    read_v2fly("f", {"f": text}.get)


@settings(deadline=None)
@given(st.text('hostcpudi:".,-@=#/*[]0123456789abc', max_size=60))
def test_no_ndpi_like_rule_raises(text):
    read_ndpi(text, "f")


def test_what_is_known_is_counted_and_not_repeated():
    merged = merge(
        BASE, [entry("chat", "chat.com"), entry("chat", "new.com"), entry("chat", "new.com")], source="list:x"
    )
    assert (merged.known, merged.brought_in(), merged.conflicts) == (2, 1, ())
    assert merged.catalogue.applications[0].pfds[-1] == Pfd(pfd_id="list", source="list:x", domain_names=("new.com",))


CONFLICTS = [
    (entry("film", "chat.com"), "l:1: 'chat.com' is an entry of 'chat': left out", 0),
    (entry("film", "CHAT.com"), "left out", 0),
    (entry("film", "media.chat.com"), "'media.chat.com' lies inside 'chat.com' of 'chat': brought in; the longer", 1),
    (entry("film", "=chat.com"), "'=chat.com' lies inside 'chat.com' of 'chat'", 1),
    (entry("film", "192.0.2.0/24", "prefixes"), "'192.0.2.0/24' is an entry of 'chat': left out", 0),
    (entry("film", "192.0.2.128/25", "prefixes"), "lies inside '192.0.2.0/24' of 'chat'", 1),
    (entry("new", "call.com"), "is an entry of 'chat': left out", 0),
]


@pytest.mark.parametrize(("item", "expected", "brought_in"), CONFLICTS, ids=[text for _, text, _ in CONFLICTS])
def test_what_another_application_has_is_a_conflict(item, expected, brought_in):
    merged = merge(BASE, [item], source="partner:x")
    (conflict,) = merged.conflicts
    assert expected in str(conflict)
    assert merged.brought_in() == brought_in
    assert bool(merged.applications or merged.additions) == bool(brought_in)


NO_CONFLICTS = [
    entry("film", "mychat.com"), entry("film", "com.chat"), entry("film", "www.chat.net"), entry("chat", "a.chat.com"),
    entry("film", "192.0.3.0/24", "prefixes"), entry("film", "2001:db8::/32", "prefixes"),
    entry("film", "udp/1-5", "ports"),
]  # fmt: skip


@pytest.mark.parametrize("item", NO_CONFLICTS, ids=[item.value for item in NO_CONFLICTS])
def test_what_only_looks_alike_is_no_conflict(item):
    merged = merge(BASE, [item], source="partner:x")
    assert (merged.conflicts, merged.brought_in()) == ((), 1)


def test_two_new_applications_of_one_import_do_not_share_an_entry():
    merged = merge(BASE, [entry("one", "same.com"), entry("two", "same.com")], source="list:x")
    assert [item.id for item in merged.applications] == ["one"]
    assert [conflict.kind for conflict in merged.conflicts] == ["taken"]


def test_a_pfd_that_is_there_already_lends_its_service_to_the_new_one_of_its_name():
    merged = merge(BASE, [entry("chat", "relay.com", pfd_id="call")], source="partner:x")
    pfd = merged.catalogue.applications[0].pfds[-1]
    assert (pfd.pfd_id, pfd.service, pfd.category, pfd.source) == ("call-2", "call", "voip_im", "partner:x")


def test_what_came_in_is_a_file_that_loads_beside_the_others(tmp_path):
    items = [entry("chat", "new.com"), entry("chat", "udp/40000", "ports"), entry("sharing", "github.io", shared=True),
             entry("on", "=no.com"), entry("2031", "*.yes.com")]  # fmt: skip
    merged = merge(BASE, items, source="list:a: b", category="social", provider="Prövider")
    (tmp_path / "base.yaml").write_text(
        "applications:\n"
        "- {id: chat, name: Chat, category: voip_im, pfds: [{pfd_id: names, domain_names: [chat.com]}]}\n"
    )
    (tmp_path / "imported.yaml").write_text(merged.to_yaml("Imported from two\nplaces."), encoding="utf-8")
    assert (tmp_path / "imported.yaml").read_text().startswith("# Imported from two\n# places.\n")
    loaded = {item.id: item for item in load_catalogue(tmp_path).applications}
    assert loaded["chat"].pfds[1:] == merged.catalogue.applications[0].pfds[2:]
    assert [loaded[item.id] for item in merged.applications] == list(merged.applications)


def test_an_import_without_news_is_an_empty_file(tmp_path):
    text = merge(BASE, [], source="x").to_yaml("Nothing.")
    assert text == "# Nothing.\n"
    (tmp_path / "a.yaml").write_text(text)
    assert load_catalogue(tmp_path).applications == ()


IDS = [
    ("sd-rtn", "sd-rtn"),
    ("com.netflix", "com.netflix"),
    ("WhatsApp", "whatsapp"),
    ("Call of Duty", "call_of_duty"),
    ("!cn", "cn"),
]


@pytest.mark.parametrize(("name", "expected"), IDS, ids=[name for name, _ in IDS])
def test_a_sources_name_becomes_an_id(name, expected):
    assert application_id(name) == expected


def test_a_name_without_letters_is_refused():
    with pytest.raises(ValueError, match="no letter or digit"):
        application_id("!!")
