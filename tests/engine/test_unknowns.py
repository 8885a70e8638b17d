import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.unknowns import UnknownNames, registered_domain
from tests.engine.classify_world import classifier, flow

JUDGE = classifier()


def unlisted(name):
    return JUDGE.classify(flow(server_name=name))


def test_names_are_counted_by_registered_domain_and_exporter():
    sketch = UnknownNames(10)
    sketch.add("e-1", unlisted("a.cdn.example.org"), 100)
    sketch.add("e-1", unlisted("b.example.org"), 50)
    sketch.add("e-2", unlisted("example.org"), 7)
    assert sketch.top(5) == [("e-1", "example.org", 150, 0), ("e-2", "example.org", 7, 0)]


@pytest.mark.parametrize("fields", [{"server_name": "www.whatsapp.com"}, {"server_name": "d1.cloudfront.net"}, {}])
def test_listed_shared_and_nameless_flows_do_not_count(fields):
    sketch = UnknownNames(10)
    sketch.add("e-1", classifier().classify(flow(**fields)), 100)
    assert sketch.top(1) == []


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 1_000)), max_size=300))
def test_true_amount_lies_within_what_the_sketch_says(counts):
    verdicts = {number: unlisted(f"site{number}.example") for number, _ in counts}
    sketch, truth = UnknownNames(5), {}
    for number, octets in counts:
        sketch.add("e", verdicts[number], octets)
        truth[f"site{number}.example"] = truth.get(f"site{number}.example", 0) + octets
    assert len(sketch) <= 10
    for item in sketch.top(10):
        assert item.octets <= truth[item.domain] <= item.octets + item.missed_octets


def test_heavy_names_survive_a_flood_of_random_ones():
    sketch, numbers, heavy = UnknownNames(50), random.Random(3), unlisted("heavy.example")
    for turn in range(5_000):
        sketch.add("e", unlisted(f"{numbers.randbytes(5).hex()}.example"), 10)
        if turn % 10 == 0:
            sketch.add("e", heavy, 10_000)
    assert sketch.top(1)[0].domain == "heavy.example"
    assert len(sketch) <= 100


def test_lanes_add_up():
    one, two = UnknownNames(10), UnknownNames(10)
    one.add("e", unlisted("a.example"), 1)
    two.add("e", unlisted("a.example"), 2)
    two.add("e", unlisted("b.example"), 5)
    one.merge([two])
    assert [item[1:3] for item in one.top(2)] == [("b.example", 5), ("a.example", 3)]


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("www.a.co.uk", "a.co.uk"),
        ("a.co.uk", "a.co.uk"),
        ("x.y.example.com", "example.com"),
        ("localhost", "localhost"),
    ],
)
def test_registered_domain_is_what_somebody_registered(name, domain):
    assert registered_domain(name) == domain


def test_sketch_without_room_is_refused():
    with pytest.raises(ValueError, match="entries is 0"):
        UnknownNames(0)
