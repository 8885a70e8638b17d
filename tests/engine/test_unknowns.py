import random
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.unknowns import (
    MAX_NAMES,
    NO_HOST_NAME,
    UnknownNames,
    UnknownsReport,
    Volume,
    folded,
    merge_reports,
    registered_domain,
)
from tests.engine.classify_world import classifier, flow

JUDGE = classifier()


def unlisted(name):
    return JUDGE.classify(flow(server_name=name))


def listed_names(report):
    return [(item.exporter_id, item.name, item.flows, item.octets) for item in report.names]


def flooded(sketch, names, *, seed=3, octets=10):
    """The sketch after a flood of different names, each seen once."""
    numbers = random.Random(seed)
    for _ in range(names):
        sketch.add("e", unlisted(f"{numbers.randbytes(6).hex()}.example"), octets)
    return sketch


def test_names_are_counted_by_exporter_and_registered_domain():
    sketch = UnknownNames()
    sketch.add("e-1", unlisted("a.cdn.example.org"), 100)
    sketch.add("e-1", unlisted("b.example.org"), 50)
    sketch.add("e-2", unlisted("example.org"), 7)
    assert listed_names(sketch.report()) == [("e-1", "example.org", 2, 150), ("e-2", "example.org", 1, 7)]


def test_tenants_of_a_shared_name_are_counted_apart():
    sketch = UnknownNames()
    for name in ("d1.cloudfront.net", "a.d1.cloudfront.net", "d2.cloudfront.net"):
        sketch.add("e", unlisted(name), 100)
    assert listed_names(sketch.report()) == [("e", "d1.cloudfront.net", 2, 200), ("e", "d2.cloudfront.net", 1, 100)]
    assert {item.reason for item in sketch.report().names} == {"shared_cdn"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "no_evidence"),
        ({"server_name": "192.0.2.1"}, "no_evidence"),
        ({"server_name": "cloudflare-ech.com"}, "encrypted_client_hello"),
    ],
)
def test_flows_without_a_name_of_their_own_count_in_the_totals_only(fields, reason):
    sketch = UnknownNames()
    sketch.add("e", JUDGE.classify(flow(**fields)), 100)
    assert sketch.report().names == ()
    assert sketch.report().totals == {reason: Volume(1, 100)}


def test_flows_of_an_application_and_dns_queries_do_not_count():
    sketch = UnknownNames()
    for fields in ({"server_name": "www.whatsapp.com"}, {"remote_port": 53, "dns_name": "site.example"}):
        sketch.add("e", JUDGE.classify(flow(**fields)), 100)
    assert sketch.report() == UnknownsReport()


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1_000)), max_size=300))
def test_true_volume_lies_within_what_the_sketch_says(counts):
    verdicts = {number: unlisted(f"site{number}.example") for number, _ in counts}
    sketch, truth = UnknownNames(10), {}
    for number, octets in counts:
        sketch.add("e", verdicts[number], octets)
        truth[f"site{number}.example"] = truth.get(f"site{number}.example", 0) + octets
    report = sketch.report()
    for item in report.names:
        assert item.octets <= truth.pop(item.name) <= item.octets + item.error_octets
    assert all(octets <= report.missing_octets for octets in truth.values())
    assert report.missing_octets * 5 <= report.octets == sum(octets for _, octets in counts)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1_000)), max_size=80), max_size=4),
    st.integers(1, 12),
)
def test_true_volume_lies_within_what_merged_lanes_say(lanes, max_names):
    reports, truth = [], {}
    for lane in lanes:
        sketch = UnknownNames(6)
        for number, octets in lane:
            sketch.add("e", unlisted(f"site{number}.example"), octets)
            truth[f"site{number}.example"] = truth.get(f"site{number}.example", 0) + octets
        reports.append(sketch.report())
    merged = merge_reports(reports, max_names=max_names)
    assert len(merged.names) <= max_names
    assert merged.octets == sum(truth.values())
    for item in merged.names:
        assert item.octets <= truth.pop(item.name) <= item.octets + item.error_octets
    assert all(octets <= merged.missing_octets for octets in truth.values())


def test_a_name_above_its_share_survives_a_flood_of_random_ones():
    sketch, heavy = UnknownNames(20), unlisted("heavy.example")
    for turn in range(300):
        flooded(sketch, 10, seed=turn)
        sketch.add("e", heavy, 50)
    [first, *_] = sketch.report().names
    assert (first.name, first.octets + first.error_octets >= 15_000) == ("heavy.example", True)


def test_neither_random_names_nor_random_exporters_grow_the_sketch():
    sketch, sizes = UnknownNames(64), set()
    for number in range(5_000):
        sketch.add(f"e-{number % 1_000}", unlisted(f"{number:x}.example"), 10)
        sizes.add(len(sketch))
    assert max(sizes) == 64


def test_memory_stands_still_after_the_sketch_is_full():
    verdicts = [unlisted(f"{number:064x}.example") for number in range(6_000)]
    sketch = UnknownNames(256)
    tracemalloc.start()
    try:
        octets = []
        for begin in range(0, 6_000, 500):
            for verdict in verdicts[begin : begin + 500]:
                sketch.add("e", verdict, 10)
            octets.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(octets) < 256 * 2_048
    assert max(octets[6:]) < 2 * max(octets[:6])


def test_random_labels_below_one_domain_are_one_name():
    sketch = UnknownNames(4)
    for number in range(1_000):
        sketch.add("e", unlisted(f"{number:x}.evil.example.com"), 10)
    assert listed_names(sketch.report()) == [("e", "example.com", 1_000, 10_000)]


def test_all_that_is_no_host_name_is_gathered_at_each_exporter():
    sketch = UnknownNames()
    for number in range(6):
        sketch.add(f"e-{number % 2}", unlisted(f"{number} strange"), 10)
    assert listed_names(sketch.report()) == [("e-0", NO_HOST_NAME, 3, 30), ("e-1", NO_HOST_NAME, 3, 30)]


@pytest.mark.parametrize(
    "text", ["a b", "\x1b[2Jname", "a\nb", "name;rm", "<script>", "名" * 200, "[::1", "a" * 200 + "!"]
)
def test_what_is_no_host_name_is_never_shown(text):
    sketch = UnknownNames()
    sketch.add("e", unlisted(text), 10)
    sketch.add("e", unlisted(text), 10)
    assert listed_names(sketch.report()) == [("e", NO_HOST_NAME, 2, 20)]


def test_report_holds_the_largest_and_bounds_the_rest():
    sketch = UnknownNames(10)
    for number in range(1, 6):
        sketch.add("e", unlisted(f"site{number}.example"), number * 100)
    report = sketch.report(2)
    assert [item.octets for item in report.names] == [500, 400]
    assert report.missing_octets == 300
    assert report.octets == 1_500


def test_lanes_add_up():
    one, two = UnknownNames(catalogue_version="v1", since_ms=20), UnknownNames(catalogue_version="v2", since_ms=10)
    one.add("e", unlisted("a.example"), 1)
    two.add("e", unlisted("a.example"), 2)
    two.add("e", unlisted("b.example"), 5)
    two.add("e", JUDGE.classify(flow()), 7)
    merged = merge_reports([one.report(), two.report()])
    assert listed_names(merged) == [("e", "b.example", 1, 5), ("e", "a.example", 2, 3)]
    assert merged.totals == {"name_not_listed": Volume(3, 8), "no_evidence": Volume(1, 7)}
    assert (merged.catalogue_versions, merged.since_ms) == (("v1", "v2"), 10)


def test_nothing_merges_into_nothing():
    assert merge_reports([]) == UnknownsReport()


def test_report_survives_the_wire():
    report = flooded(UnknownNames(20, catalogue_version="v1"), 50).report()
    assert msgspec.json.decode(msgspec.json.encode(report), type=UnknownsReport) == report


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("www.a.co.uk", "a.co.uk"),
        ("a.co.uk", "a.co.uk"),
        ("co.uk", "co.uk"),
        ("x.y.z.example.com", "example.com"),
        ("www.vk.ru", "vk.ru"),
        ("localhost", "localhost"),
        ("a.b", "a.b"),
        ("x.xn--p1ai", "x.xn--p1ai"),
    ],
)
def test_registered_domain_is_what_somebody_registered(name, domain):
    assert registered_domain(name) == domain


@pytest.mark.parametrize(
    ("name", "matched", "tenant"),
    [
        ("a.b.cdn.example", "cdn.example", "b.cdn.example"),
        ("cdn.example", "cdn.example", "cdn.example"),
        ("x.tenant-7.cdn.example", "tenant-*.cdn.example", "tenant-7.cdn.example"),
        ("x.b.cdn.example", "*.cdn.example", "b.cdn.example"),
        ("www.b.cdn.example", "=www.b.cdn.example", "www.b.cdn.example"),
    ],
)
def test_a_shared_entry_tells_what_a_tenant_is(name, matched, tenant):
    assert folded(name, matched) == tenant


@given(st.text(max_size=255))
def test_folding_is_total_and_never_longer_than_the_name(text):
    assert len(registered_domain(text)) <= len(text)
    assert len(folded(text, "cdn.example")) <= len(text)


@pytest.mark.parametrize("max_names", [0, 1, -2, 7])
def test_sketch_without_room_is_refused(max_names):
    with pytest.raises(ValueError, match=f"max_names is {max_names}"):
        UnknownNames(max_names)


def test_default_bound_is_the_named_one():
    assert len(flooded(UnknownNames(), MAX_NAMES + 500)) <= MAX_NAMES
