"""What strangers' text may do to classification: nothing but what is documented. Each target takes any octets.

A target ends quietly, or raises AssertionError (a promise broken) or whatever slipped through (a bug). The tests run
them with hypothesis, `python -m bench.fuzz` for minutes with atheris.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from schemas.flow import DnsAnswer, FlowRecord, check_flow
from schemas.flow_description import parse_flow_description, parse_ports, parse_prefix
from services.engine.classify import Classifier
from services.engine.classify_memory import MAX_NAME_MS, SubscriberMemory
from services.engine.classify_patterns import entry_of_domain, entry_of_url
from services.engine.hostnames import MAX_HOST_CHARACTERS, SuffixTable, is_address, normalise
from services.rating.catalogue_files import load_catalogue
from services.rating.catalogue_pfds import entry_of_t8_domain, read_pfds

NAMES, ANSWERS = 4, 64
"""Bounds of the DNS cache in its target: names kept, answers of one flow."""


def host(data: bytes) -> None:
    """Any text is a host or none; a host has one spelling, and the table finds only what covers it."""
    spelt = normalise(_text(data))
    if spelt is None:
        return
    assert normalise(spelt) == spelt
    assert spelt.isascii()
    assert spelt == spelt.lower()
    assert spelt
    assert not spelt.endswith(".")
    is_address(spelt)
    hit = _judge()._tables.names.find(spelt)
    if hit is not None and "*" not in hit[0]:
        entry = hit[0].removeprefix("=")
        assert spelt == entry or (spelt.endswith(f".{entry}") and hit[0] == entry)


def pfd(data: bytes) -> None:
    """Any pattern, description or port is understood or refused with a ValueError; what is understood can be used."""
    text = _text(data)
    for read in (entry_of_t8_domain, parse_flow_description, parse_ports, parse_prefix):
        with contextlib.suppress(ValueError):
            read(text)
    for entry_of in (entry_of_domain, lambda pattern: entry_of_url(pattern)[0]):
        with contextlib.suppress(ValueError):
            SuffixTable([(entry_of(text), 1)]).find("www.example.com")
    with contextlib.suppress(ValueError, RecursionError):
        read_pfds(json.loads(data), "fuzz")
    for key in ("domainNames", "urls", "flowDescriptions"):
        reading = read_pfds({"externalAppId": "a", "pfds": {"p": {key: text.split("\n")}}}, "fuzz")
        assert len(reading.entries) + len(reading.refusals) == text.count("\n") + 1


def dns(data: bytes) -> None:
    """Any answers are taken in; the cache keeps its bound, and nothing outlives an hour."""
    memory = SubscriberMemory(subscribers=2, names=NAMES, servers=2, ports=2, applications=2)
    for number, line in enumerate(_text(data).split("\n")):
        words = line.split("\t")
        name, addresses, start_ms = words[0], words[1:], 1_000_000 + 7_000 * number
        asked = _flow(start_ms) | {
            "ip_protocol": 17, "remote_port": 53, "dns_name": name[:MAX_HOST_CHARACTERS],
            "dns_answers": tuple(DnsAnswer(address=word[:45], ttl_s=len(line) ** 5) for word in addresses[:ANSWERS]),
        }  # fmt: skip
        assert _judge().classify(FlowRecord(**asked), memory).service == "dns"
        trail = memory.trail_of("s-1")
        assert len(trail.names) <= NAMES
        for address in addresses:
            flow = FlowRecord(**_flow(start_ms + MAX_NAME_MS + 2) | {"remote_ip": address[:45]})
            assert trail.name_of(address, flow) is None


def flow(data: bytes) -> None:
    """Any record that the contract lets in has a verdict, with and without a memory."""
    try:
        record = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if check_flow(record) is not None:
        return
    verdict = _judge().classify(record, SubscriberMemory())
    assert 0 <= verdict.confidence <= 100
    assert (verdict.application is None) == (verdict.reason is not None)


TARGETS: Mapping[str, Callable[[bytes], None]] = {"host": host, "pfd": pfd, "dns": dns, "flow": flow}
"""By the names that `python -m bench.fuzz` takes."""

SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "host": (b"WWW.Example.COM.:443", b"[2001:db8::1]:80", "münchen.example".encode(), b"::ffff:192.0.2.1", b"xn--a.b"),
    "pfd": (
        rb"^(.*\.)?example\.com$", rb"^(http|https)://(.+\.)?example\.com:80(/\S*)?$", b"tenant-*.cdn.example",
        b"permit out udp from 203.0.113.0/24 3478,3480-3481 to assigned", b"udp/19302-19309",
        b'{"pfdDatas": {"a": {"externalAppId": "a", "pfds": {"p": {"pfdId": "p", "domainNames": ["example.com"]}}}}}',
    ),
    "dns": (b"www.netflix.com\t203.0.113.5\t2001:db8::5\nt.me\t203.0.113.5", b"a\t::ffff:192.0.2.1"),
    "flow": (
        b'{"version":"1.0","record_id":"r","subscriber_id":"s","exporter_id":"e","start_ms":0,"end_ms":1,'
        b'"ip_protocol":17,"subscriber_ip":"10.0.0.1","subscriber_port":40000,"remote_ip":"203.0.113.7",'
        b'"remote_port":3478,"octets_up":1,"octets_down":1,"server_name":"t.me","remote_as":2906}',
    ),
}  # fmt: skip
"""Well-formed beginnings for each target."""


def growing(size: int) -> Mapping[str, tuple[Callable[[str], object], str]]:
    """Reader and a text of about `size` characters that a backtracking or quadratic reader would suffer from."""
    labels = "a." * (size // 2)
    return {
        "domain, labels and a bad end": (entry_of_domain, f"^{labels}!"),
        "domain, escaped dots": (entry_of_domain, "a\\." * (size // 3) + "!"),
        "domain, one label": (entry_of_domain, "a" * size + "("),
        "domain, nested stars": (entry_of_domain, "(a+)+" * (size // 5)),
        "url, slashes": (entry_of_url, "https://" + "/(" * (size // 2)),
        "url, labels": (entry_of_url, f"^https?://{labels}!/x"),
        "flow description, words": (parse_flow_description, "permit out udp from any to " + "any " * (size // 4)),
        "flow description, ports": (
            parse_flow_description, "permit out udp from any " + "1," * (size // 2) + "x to assigned"
        ),
        "ports, digits": (parse_ports, "udp/" + "1" * size),
        "prefix, colons": (parse_prefix, ":" * size),
        "host, labels": (normalise, labels),
        "host, not ASCII": (normalise, "ä." * (size // 2)),
    }  # fmt: skip


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


_decode = msgspec.json.Decoder(FlowRecord).decode


@functools.cache
def _judge() -> Classifier:
    return Classifier(load_catalogue().applications, cache_entries=1_000)


def _flow(start_ms: int) -> dict[str, Any]:
    return {
        "version": "1.0", "record_id": "r", "subscriber_id": "s-1", "exporter_id": "e", "start_ms": start_ms,
        "end_ms": start_ms, "ip_protocol": 6, "subscriber_ip": "10.0.0.1", "subscriber_port": 40_000,
        "remote_ip": "198.51.100.9", "remote_port": 443, "octets_up": 0, "octets_down": 0,
    }  # fmt: skip
