import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Application, Pfd
from services.engine.classify_addresses import PrefixTable, is_group, network_of
from services.engine.classify_cache import BoundedCache
from services.engine.classify_table import Tables
from services.engine.hostnames import pack_address

PREFIXES = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "0.0.0.0/0", "2001:db8::/32", "2001:db8:1::/48"]


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)) | st.sampled_from(["10.1.2.3", "10.1.2.9", "2001:db8:1::7"])
)
def test_prefix_table_agrees_with_a_search_through_all_prefixes(address):
    table = PrefixTable((ipaddress.ip_network(prefix), prefix) for prefix in PREFIXES)
    parsed = ipaddress.ip_address(str(address))
    wanted = [ipaddress.ip_network(prefix) for prefix in PREFIXES]
    wanted = [network for network in wanted if network.version == parsed.version and parsed in network]
    wanted.sort(key=lambda network: -network.prefixlen)
    assert list(table.covering(parsed.packed)) == [str(network) for network in wanted]


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("224.0.0.251", True), ("255.255.255.255", True), ("192.168.1.255", True), ("10.0.0.255", True),
        ("172.16.0.255", True), ("ff00::", True), ("ff02::fb", True), ("::", True),
        ("203.0.113.255", False), ("192.168.1.1", False), ("2001:db8::ff", False),
    ],
)  # fmt: skip
def test_groups_have_no_single_far_side(address, group):
    assert is_group(pack_address(address)) is group


def test_network_is_the_part_that_one_operator_usually_owns():
    assert network_of(pack_address("203.0.113.9")) == bytes([203, 0])
    assert network_of(pack_address("2001:db8::1")) == bytes.fromhex("20010db8")


@given(st.lists(st.integers(0, 30)), st.integers(2, 8))
def test_cache_never_outgrows_its_limit_and_never_lies(keys, limit):
    cache = BoundedCache(limit)
    for key in keys:
        value = cache.get(key) or cache.older(key)
        assert value in {None, f"value {key}"}
        cache.put(key, f"value {key}")
        assert cache.total() <= limit


def test_cache_keeps_what_is_asked_for_again():
    cache = BoundedCache(10)
    for number in range(1_000):
        cache.put(number, "new")
        cache.put("asked", "again") if number == 0 else None
        assert cache.get("asked") or cache.older("asked")


def one(pfd_id="p", **detectors):
    return Application(id="app", name="App", category="other", pfds=(Pfd(pfd_id=pfd_id, **detectors),))


@pytest.mark.parametrize(
    ("detectors", "message"),
    [
        ({"domain_names": ("com",)}, "public suffix"),
        ({"domain_names": ("203.0.113.7",)}, "no host name"),
        ({"domain_names": (r"^(a+)+\.example$",)}, "no shape that is understood"),
        ({"urls": ("https:///path",)}, "no shape that is understood"),
    ],
)
def test_entry_that_cannot_be_used_is_refused(detectors, message):
    with pytest.raises(ValueError, match=message):
        Tables([one(**detectors)])


@pytest.mark.parametrize(
    ("detectors", "message"),
    [
        ({"ports": ("sctp/80",)}, "not tcp or udp"),
        ({"ports": ("udp/80-70",)}, "no port range"),
        ({"ports": ("udp/65536",)}, "no port range"),
        ({"prefixes": ("203.0.113.7/24",)}, "host bits"),
        ({"flow_descriptions": ("permit out udp from 203.0.113.0/24",)}, "flow description"),
        ({"flow_descriptions": ("deny out udp from any to assigned",)}, "permit"),
        ({"flow_descriptions": ("permit out 256 from any to assigned",)}, "protocol"),
        ({"flow_descriptions": ("permit out udp from any to 10.0.0.1",)}, "subscriber's side"),
        ({}, "detects nothing"),
    ],
)
def test_pfd_that_cannot_be_read_is_refused_where_it_enters(detectors, message):
    with pytest.raises(ValueError, match=message):
        one(**detectors)


@pytest.mark.parametrize(
    ("text", "protocol", "port", "fits"),
    [
        ("permit out udp from 203.0.113.0/24 3478,4000-4010 to assigned", 17, 4005, True),
        ("permit out udp from 203.0.113.0/24 3478,4000-4010 to assigned", 17, 4011, False),
        ("permit out udp from 203.0.113.0/24 3478 to assigned", 6, 3478, False),
        ("permit out ip from 203.0.113.0/24 to assigned", 132, 7, True),
        ("permit in 17 from assigned to 203.0.113.0/24 53", 17, 53, True),
    ],
)
def test_flow_description_fits_protocol_and_port(text, protocol, port, fits):
    tables = Tables([one(flow_descriptions=(text,))])
    (rule,) = tables.rules_at.covering(pack_address("203.0.113.77"))
    assert rule.matches(protocol, port) is fits
    assert not list(tables.rules_at.covering(pack_address("203.0.114.77")))


@given(st.text(max_size=120))
def test_any_flow_description_is_read_or_refused(text):
    try:
        one(flow_descriptions=(text,))
    except ValueError as error:
        refused = str(error)
    else:
        refused = "detects nothing flow description"
    assert "flow description" in refused


def test_narrow_ports_win_over_wide_ones():
    narrow = Application(id="narrow", name="N", category="other", pfds=(Pfd(pfd_id="p", ports=("udp/5000",)),))
    wide = Application(id="a-wide", name="W", category="other", pfds=(Pfd(pfd_id="p", ports=("udp/1-65535",)),))
    tables = Tables([wide, narrow])
    assert tables.port(17, 5000)[1].application == "narrow"
    assert tables.port(17, 5001)[1].application == "a-wide"
    assert tables.port(6, 5001) is None
