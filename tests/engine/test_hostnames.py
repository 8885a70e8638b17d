import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.hostnames import SuffixTable, is_address, is_public_suffix, normalise


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        ("WWW.WhatsApp.COM", "www.whatsapp.com"),
        ("www.whatsapp.com.", "www.whatsapp.com"),
        ("www.whatsapp.com:443", "www.whatsapp.com"),
        ("www.whatsapp.com.:443", "www.whatsapp.com"),
        ("www.whatsapp.com:", "www.whatsapp.com"),
        (" www.whatsapp.com ", "www.whatsapp.com"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:8080", "203.0.113.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("localhost", "localhost"),
        ("a.b.1", "a.b.1"),
        ("", None),
        (".", None),
        ("a..b", None),
        ("two words.example", None),
        ("host/path", None),
        ("user@host", None),
        ("*.example.com", None),
        ("example.com:https", None),
        ("example.com:123456", None),
        ("[2001:db8::1", None),
        ("[203.0.113.7]", None),
        ("fe80::1%eth0", None),
        ("nul\0.example", None),
        ("a" * 256, None),
    ],
)
def test_host_has_one_spelling(sent, host):
    assert normalise(sent) == host


@given(st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9.:\[\]\-_äß。]{0,80}", fullmatch=True))
def test_any_text_has_an_answer_and_a_second_pass_changes_nothing(text):
    host = normalise(text)
    assert host is None or normalise(host) == host


@given(st.from_regex(r"[a-z0-9.:\[\]\-]{1,60}", fullmatch=True))
def test_a_host_is_lower_case_ascii_without_dot_at_the_end(text):
    host = normalise(text)
    assert host is None or (host.isascii() and host == host.lower() and not host.endswith("."))


@pytest.mark.parametrize(
    ("host", "address"),
    [("203.0.113.7", True), ("2001:db8::1", True), ("example.com", False), ("a.b.1", False), ("1.2.3.4.5", False)],
)
def test_addresses_are_no_names(host, address):
    assert is_address(host) is address


@pytest.mark.parametrize(
    ("host", "matched"),
    [
        ("whatsapp.com", "whatsapp.com"),
        ("web.whatsapp.com", "whatsapp.com"),
        ("a.b.c.d.whatsapp.com", "whatsapp.com"),
        ("notwhatsapp.com", None),
        ("whatsapp.com.evil.example", None),
        ("call.whatsapp.com", "call.whatsapp.com"),
        ("x.call.whatsapp.com", "call.whatsapp.com"),
        ("exact.example", "=exact.example"),
        ("below.exact.example", None),
        ("wild.example", None),
        ("below.wild.example", "*.wild.example"),
        ("x.below.wild.example", "*.wild.example"),
        ("tenant-7-a.cdn.example", "tenant-*-a.cdn.example"),
        ("x.tenant-7-a.cdn.example", "tenant-*-a.cdn.example"),
        ("tenant-a.cdn.example", "tenant-*.cdn.example"),
        ("nottenant-7-a.cdn.example", None),
        ("tenant-7-a.evil.example", None),
        ("both.example", "=both.example"),
        ("x.both.example", "both.example"),
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("com", None),
    ],
)
def test_longest_entry_on_a_label_boundary_wins(host, matched):
    entries = [
        "whatsapp.com", "call.whatsapp.com", "=exact.example", "*.wild.example", "both.example", "=both.example",
        "münchen.example", "tenant-*.cdn.example", "tenant-*-a.cdn.example",
    ]  # fmt: skip
    table = SuffixTable((entry, 1) for entry in entries)
    assert table.find(host) == (None if matched is None else (matched, 1))


@pytest.mark.parametrize(
    ("host", "probes"),
    [
        ("x." * 120 + "a.example.com", 2),
        ("x." * 120 + "b.c.d.example.com", 2),
        ("a.example.com", 1),
        ("x." * 120 + "b.example.org", 0),
        ("www.other.net", 0),
    ],
)
def test_a_deep_host_costs_one_probe_for_each_length_of_the_entries_beside_it(host, probes):
    table = SuffixTable(
        [("a.example.com", 1), ("d.c.b.example.com", 1), ("a.b.c.d.e.example.net", 1), ("example.org", 2)]
    )
    probe, asked = table._at, []
    table._at = lambda text: asked.append(text) or probe(text)
    table.find(host)
    assert len(asked) == probes


def test_names_whose_hashes_name_the_same_place_are_told_apart():
    # Nine names at the last place run over the end of the cells; the tenth is not listed.
    candidates = (f"name{number}.example" for number in itertools.count())
    *listed, stranger = itertools.islice((name for name in candidates if last_place(hash(name), places=32)), 10)
    table = SuffixTable((name, name) for name in listed)
    assert table._mask == 2 * 32 - 2
    assert [table.find(f"www.{name}") for name in listed] == [(name, name) for name in listed]
    assert table.find(stranger) is None


def last_place(number, *, places):
    return number & (2 * places - 2) == 2 * places - 2


def test_a_python_with_short_hashes_is_refused(monkeypatch):
    monkeypatch.setattr("services.engine.hostnames._LONG", 1 << 64)
    with pytest.raises(RuntimeError, match="use a 64-bit build"):
        SuffixTable([("example.com", 1)])


def test_a_large_table_finds_what_is_listed_and_nothing_else():
    numbers = random.Random(5)
    names = {
        f"{numbers.randbytes(3).hex()}.{top}" for top in ("com", "net", "co.uk", "b.example") for _ in range(5_000)
    }
    listed = sorted(names)[::2]
    table = SuffixTable((name, name) for name in listed)
    found = {name for name in names if table.find(f"www.{name}") == (name, name)}
    assert found == set(listed)


@given(
    st.lists(st.from_regex(r"(=|\*\.)?([ab]{1,2}\.){1,3}(example|co\.uk)", fullmatch=True), max_size=12),
    st.from_regex(r"([ab]{1,2}\.){0,4}(example|co\.uk)", fullmatch=True),
)
def test_table_agrees_with_a_search_through_all_entries(entries, host):
    covering = [entry for entry in entries if covers(entry, host)]
    found = SuffixTable((entry, entry) for entry in entries).find(host)
    best = max(covering, key=rank, default=None)
    assert found == (None if best is None else (best, best))


def covers(entry, host):
    name = entry.removeprefix("=").removeprefix("*.")
    below = host.endswith(f".{name}")
    return host == name if entry.startswith("=") else below if entry.startswith("*.") else below or host == name


def rank(entry):
    name = entry.removeprefix("=").removeprefix("*.")
    return (entry.startswith("="), name.count(".") + entry.startswith("*."), not entry.startswith("*."))


@pytest.mark.parametrize("entry", ["com", "co.uk", "*.com.br", "shop*.com", "ne.jp"])
def test_public_suffix_is_refused(entry):
    with pytest.raises(ValueError, match="public suffix"):
        SuffixTable([(entry, 1)])


@pytest.mark.parametrize(
    "entry", ["203.0.113.7", "bad name.example", "a.*.example.com", "a*b*.example.com", "=*.example.com", "*", ""]
)
def test_entry_that_is_no_name_is_refused(entry):
    with pytest.raises(ValueError, match="no host name"):
        SuffixTable([(entry, 1)])


@pytest.mark.parametrize(("name", "public"), [("com", True), ("co.jp", True), ("whatsapp.com", False), ("t.me", False)])
def test_public_suffix_is_known_by_its_shape(name, public):
    assert is_public_suffix(name) is public
