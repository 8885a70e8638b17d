"""Realistic traffic, made from a seed: the same profile and seed give the same octets.

Applications follow a Zipf law, sizes a heavy tail, hours of the day their usual weights. Long flows and calls are
reported interval by interval; some records come twice, some late, some broken.
"""

import heapq
import math
from bisect import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal, NamedTuple

import msgspec

from schemas.fields import RatType
from schemas.flow import DnsAnswer, EndReason, FlowRecord
from services.ingest.traffic_applications import Network, TrafficApplication
from services.ingest.traffic_malformed import MALFORMED_KINDS, MalformedKind, break_record
from services.ingest.traffic_profile import TrafficProfile, TrafficSubscriber

HOUR_MS = 3_600_000

SEGMENT_OCTETS = 1_280
"""Octets in one packet of bulk traffic, about."""

OCTETS_PER_INTERVAL = 30_000_000
"""A flow bigger than this takes more than one interval."""

MAX_INTERVALS = 10

RECENT_RECORDS = 512
"""A duplicate repeats one of so many last records."""

Note = Literal["flow", "dns", "call", "unlisted", "nameless", "failed", "spoofed", "duplicate"] | MalformedKind
"""What the generator knows of a record and the record does not say."""


class GeneratedRecord(NamedTuple):
    """A record for the flow topic: its key, its value, when it is published (ms since 1970 UTC), and what it is."""

    key: bytes | None
    value: bytes
    timestamp_ms: int
    note: Note


class CompactFlowRecord(FlowRecord, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A FlowRecord that leaves absent fields out of its JSON, as exporters do."""


def generate_traffic(profile: TrafficProfile, seed: int) -> Iterator[GeneratedRecord]:
    """`profile.records` records in order of publishing.

    Record ids repeat in duplicates, and between runs of the same seed and start; nowhere else.
    """
    return _Traffic(profile, seed).records()


class _Handset(NamedTuple):
    """A subscriber with what stays the same over all its flows."""

    subscriber_id: str
    account_id: str | None
    key: bytes
    exporter_id: str
    sampling_rate: int
    ipv4: str
    ipv6: str
    rat_type: RatType
    serving_plmn: str
    ja4: str
    user_agent: str


class _Server(NamedTuple):
    """An application with everything about it that can be worked out beforehand."""

    app: TrafficApplication
    names: tuple[str, ...]
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    sizes: Sequence[int]
    up_permille: int


class _Shape(NamedTuple):
    """One new flow: its ends, its names, its size. `intervals` > 1: it is reported so many times."""

    note: Note
    ip_protocol: int
    remote_ip: str
    remote_port: int
    octets_up: int
    octets_down: int
    intervals: int = 1
    end_reason: EndReason = "end"
    server_name: str | None = None
    http_host: str | None = None
    dns_name: str | None = None
    dns_answers: tuple[DnsAnswer, ...] | None = None
    stun_realm: str | None = None
    ja4: str | None = None
    content_type: str | None = None
    user_agent: str | None = None
    exporter_application: str | None = None


class _Ongoing(NamedTuple):
    """A flow that will be reported again."""

    due_ms: int
    number: int
    handset: _Handset
    flow: CompactFlowRecord
    shape: _Shape
    interval: int


_RATS: tuple[RatType, ...] = ("NR", "EUTRA", "UTRA", "GERA", "WLAN")
_RAT_WEIGHTS = (340, 460, 90, 10, 100)
_JA4_TLS = ("t13d1516h2_8daaf6152771_02713d6af862", "t13d2014h2_a09f3c656075_14788d8d241b",
            "t13d1715h2_5b57614c22b0_3d5424432f57")  # fmt: skip
_JA4_QUIC = "q13d0312h3_55b375c5d22e_06cda9e17597"
_USER_AGENTS = ("Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8)", "AppleCoreMedia/1.0.0.21E219 (iPhone; U; CPU OS 17_4)",
                "Mozilla/5.0 (Linux; Android 13) AppleWebKit/537.36")  # fmt: skip
_RESOLVERS = (("8.8.8.8", "2001:4860:4860::8888"), ("1.1.1.1", "2606:4700:4700::1111"), ("9.9.9.9", "2620:fe::fe"))
_UP_PERMILLE = {"voip_im": 280, "social": 70, "streaming": 18, "other": 90}
_SIZE_STEPS = 4_096


class _Traffic:
    """One run of the generator. All chance comes from one Random, drawn in a fixed order."""

    def __init__(self, profile: TrafficProfile, seed: int) -> None:
        self._profile = profile
        self._rng = Random(seed)  # noqa: S311 - traffic, not secrets
        self._run = f"{seed & 0xFFFFFFFF:x}.{profile.start_ms // 1000:x}"
        self._handsets = [self._handset(index, member) for index, member in enumerate(profile.subscribers)]
        self._servers = self._make_servers()
        self._popularity = _running_sums(
            [1 / (rank + 1) ** profile.zipf_exponent for rank in range(len(profile.applications))]
        )
        self._calling = [server for server in self._servers if server.app.call] or self._servers
        self._recent: deque[GeneratedRecord] = deque(maxlen=RECENT_RECORDS)
        self._ongoing: list[_Ongoing] = []
        self._number = 0
        self._broken = 0
        self._encode = msgspec.json.Encoder().encode
        self._kinds = _running_sums(
            [profile.dns_share, profile.unlisted_share, profile.nameless_share, profile.failed_share,
             profile.spoofed_share]
        )  # fmt: skip

    def records(self) -> Iterator[GeneratedRecord]:
        """Every record of the run."""
        profile, rng = self._profile, self._rng
        step = _malformed_step(profile)
        for slot, at_ms in enumerate(_arrivals(profile, rng)):
            if step and slot % step == step - 1:
                yield self._malformed(at_ms)
            elif self._recent and rng.random() < profile.duplicate_share:
                repeated = self._recent[int(rng.random() * len(self._recent))]
                yield GeneratedRecord(repeated.key, repeated.value, at_ms, "duplicate")
            else:
                record = self._next(at_ms)
                self._recent.append(record)
                yield record

    def _next(self, at_ms: int) -> GeneratedRecord:
        if self._ongoing and self._ongoing[0].due_ms <= at_ms:
            return self._report_again(heapq.heappop(self._ongoing), at_ms)
        return self._new_flow(at_ms)

    def _malformed(self, at_ms: int) -> GeneratedRecord:
        kind = MALFORMED_KINDS[self._broken % len(MALFORMED_KINDS)]
        self._broken += 1
        good = self._new_flow(at_ms)
        key = good.key or b""  # a new flow always has one
        broken = break_record(kind, key=key, value=good.value, oversized_octets=self._profile.oversized_octets)
        return GeneratedRecord(broken.key, broken.value, at_ms, kind)

    def _new_flow(self, at_ms: int) -> GeneratedRecord:
        rng = self._rng
        # The square makes a few subscribers heavy users, as they are.
        handset = self._handsets[int(len(self._handsets) * rng.random() ** 2)]
        ipv6 = rng.random() < self._profile.ipv6_share
        shape = self._shape(handset, ipv6=ipv6)
        self._number += 1
        end_ms = at_ms - self._delay_ms()
        length_ms = self._profile.interval_ms if shape.intervals > 1 else 40 + rng.getrandbits(14)
        flow = CompactFlowRecord(
            version="1.0",
            record_id=f"{handset.exporter_id}-{self._run}-{self._number:x}-0",
            subscriber_id=handset.subscriber_id,
            account_id=handset.account_id,
            exporter_id=handset.exporter_id,
            start_ms=max(0, end_ms - length_ms),
            end_ms=max(0, end_ms),
            ip_protocol=shape.ip_protocol,
            subscriber_ip=handset.ipv6 if ipv6 else handset.ipv4,
            subscriber_port=32_768 + rng.getrandbits(14),
            remote_ip=shape.remote_ip,
            remote_port=shape.remote_port,
            octets_up=shape.octets_up,
            octets_down=shape.octets_down,
            packets_up=_packets(shape.octets_up),
            packets_down=_packets(shape.octets_down),
            server_name=shape.server_name,
            http_host=shape.http_host,
            dns_name=shape.dns_name,
            dns_answers=shape.dns_answers,
            stun_realm=shape.stun_realm,
            ja4=shape.ja4,
            http_content_type=shape.content_type,
            http_user_agent=shape.user_agent,
            exporter_application=shape.exporter_application,
            rat_type=handset.rat_type if rng.random() < 0.8 else self._rat(),
            serving_plmn=handset.serving_plmn,
            dnn="internet",
            end_reason="active" if shape.intervals > 1 else shape.end_reason,
            sampling_rate=handset.sampling_rate,
        )
        if shape.intervals > 1:
            self._go_on(handset, flow, shape, interval=1, at_ms=at_ms)
        return GeneratedRecord(handset.key, self._encode(flow), at_ms, shape.note)

    def _report_again(self, ongoing: _Ongoing, at_ms: int) -> GeneratedRecord:
        handset, flow, shape, interval = ongoing.handset, ongoing.flow, ongoing.shape, ongoing.interval
        last = interval == shape.intervals - 1
        permille = 300 + self._rng.getrandbits(10)
        octets_up, octets_down = shape.octets_up * permille // 1000, shape.octets_down * permille // 1000
        again: CompactFlowRecord = msgspec.structs.replace(
            flow,
            record_id=f"{flow.record_id.rpartition('-')[0]}-{interval}",
            start_ms=flow.end_ms,
            end_ms=max(flow.end_ms, at_ms - self._delay_ms()),
            octets_up=octets_up,
            octets_down=octets_down,
            packets_up=_packets(octets_up),
            packets_down=_packets(octets_down),
            end_reason=shape.end_reason if last else "active",
        )
        if not last:
            self._go_on(handset, again, shape, interval=interval + 1, at_ms=at_ms)
        return GeneratedRecord(handset.key, self._encode(again), at_ms, shape.note)

    def _go_on(self, handset: _Handset, flow: CompactFlowRecord, shape: _Shape, *, interval: int, at_ms: int) -> None:
        due_ms = at_ms + self._profile.interval_ms
        # The number makes every entry different, so that the heap never compares handsets.
        self._number += 1
        heapq.heappush(self._ongoing, _Ongoing(due_ms, self._number, handset, flow, shape, interval))

    def _delay_ms(self) -> int:
        rng = self._rng
        return rng.getrandbits(19) if rng.random() < self._profile.late_share else rng.getrandbits(10)

    def _shape(self, handset: _Handset, *, ipv6: bool) -> _Shape:
        rng = self._rng
        server = self._servers[bisect(self._popularity, rng.random() * self._popularity[-1])]
        address = (server.ipv6 if ipv6 else server.ipv4)[rng.getrandbits(3)]
        dns, unlisted, nameless, failed, spoofed = self._kinds
        chance = rng.random()
        if chance >= spoofed:
            return self._application_flow(handset, server, address)
        if chance < dns:
            return self._dns(server, address, ipv6=ipv6)
        if chance < unlisted:
            return self._unlisted(handset, ipv6=ipv6)
        if chance < nameless:
            return self._nameless(server, address)
        if chance < failed:
            return self._failed(handset, server, address)
        return self._spoofed(handset, server, ipv6=ipv6)

    def _application_flow(self, handset: _Handset, server: _Server, address: str) -> _Shape:
        rng, app = self._rng, server.app
        carrier = rng.getrandbits(10) * 1000 >> 10
        if carrier < app.call:
            return self._call(server, address)
        name = server.names[int(len(server.names) * rng.random() ** 2)]
        up, down, intervals = self._size(server)
        seen = app.exporter_application if rng.random() < self._profile.exporter_application_share else None
        if carrier < app.call + app.quic:
            return _Shape("flow", 17, address, 443, up, down, intervals, "idle", server_name=name, ja4=_JA4_QUIC,
                          exporter_application=seen)  # fmt: skip
        if carrier < app.call + app.quic + app.plain_http:
            content = "video/mp2t" if app.category == "streaming" else "application/octet-stream"
            return _Shape("flow", 6, address, 80, up, down, intervals, http_host=name, content_type=content,
                          user_agent=handset.user_agent, exporter_application=seen)  # fmt: skip
        return _Shape("flow", 6, address, app.tcp_port, up, down, intervals, server_name=name, ja4=handset.ja4,
                      exporter_application=seen)  # fmt: skip

    def _call(self, server: _Server, address: str) -> _Shape:
        rng, (first, last) = self._rng, server.app.media_ports
        video = rng.random() < 0.3
        octets = (9_000_000 if video else 620_000) * (500 + rng.getrandbits(10)) // 1000
        intervals = 1 + int(rng.random() ** 2 * MAX_INTERVALS)
        return _Shape("call", 17, address, first + int(rng.random() * (last - first + 1)), octets * 48 // 100,
                      octets * 52 // 100, intervals, "idle", stun_realm=server.app.stun_realm,
                      exporter_application=server.app.exporter_application if rng.random() < 0.5 else None)  # fmt: skip

    def _dns(self, server: _Server, address: str, *, ipv6: bool) -> _Shape:
        rng = self._rng
        name = server.names[int(len(server.names) * rng.random())]
        answer = DnsAnswer(address=address, ttl_s=30 + rng.getrandbits(8))
        resolver = _RESOLVERS[int(len(_RESOLVERS) * rng.random())][ipv6]
        return _Shape("dns", 17, resolver, 53, 60 + len(name), 90 + len(name) + rng.getrandbits(6),
                      dns_name=name, dns_answers=(answer,))  # fmt: skip

    def _unlisted(self, handset: _Handset, *, ipv6: bool) -> _Shape:
        rng = self._rng
        site = rng.getrandbits(12)
        name = f"{('www', 'cdn', 'api', 'm')[site & 3]}.site-{site >> 2}.example"
        down = 4_000 + self._servers[0].sizes[rng.getrandbits(12)] // 40
        address = f"2001:db8:{site:x}::1" if ipv6 else f"198.51.100.{site & 0xFF}"
        return _Shape("unlisted", 6, address, 443, 900 + down // 12, down, server_name=name, ja4=handset.ja4)

    def _nameless(self, server: _Server, address: str) -> _Shape:
        rng = self._rng
        up, down, intervals = self._size(server)
        resolved = server.names[0] if rng.random() < 0.5 else None
        protocol = 17 if server.app.quic > 200 else 6
        return _Shape("nameless", protocol, address, server.app.tcp_port, up, down, intervals, dns_name=resolved)

    def _failed(self, handset: _Handset, server: _Server, address: str) -> _Shape:
        reason: EndReason = "reset" if self._rng.random() < 0.4 else "no_answer"
        name = server.names[0] if reason == "reset" else None
        return _Shape("failed", 6, address, server.app.tcp_port, 60 + self._rng.getrandbits(9), 0, 1, reason,
                      server_name=name, ja4=handset.ja4 if name else None)  # fmt: skip

    def _spoofed(self, handset: _Handset, server: _Server, *, ipv6: bool) -> _Shape:
        rng = self._rng
        borrowed = self._calling[int(len(self._calling) * rng.random())]
        up, down, intervals = self._size(server)
        address = f"2001:db8:ffff::{rng.getrandbits(8):x}" if ipv6 else f"203.0.113.{rng.getrandbits(8)}"
        return _Shape("spoofed", 6, address, 443, up, down, intervals, server_name=borrowed.names[0],
                      ja4=handset.ja4, exporter_application="ndpi:TLS.OpenVPN")  # fmt: skip

    def _size(self, server: _Server) -> tuple[int, int, int]:
        octets = server.sizes[self._rng.getrandbits(12)]
        intervals = min(MAX_INTERVALS, 1 + octets // OCTETS_PER_INTERVAL)
        octets //= intervals
        up = octets * server.up_permille // 1000
        return 700 + up, 3_500 + octets - up, intervals

    def _rat(self) -> RatType:
        return self._rng.choices(_RATS, _RAT_WEIGHTS)[0]

    def _handset(self, index: int, member: TrafficSubscriber) -> _Handset:
        rng, profile = self._rng, self._profile
        alone = member.account_id == member.subscriber_id
        sampled = rng.random() < profile.sampled_share
        return _Handset(
            subscriber_id=member.subscriber_id,
            # Many exporters know no account: then the subscriber's own id stands for it.
            account_id=None if alone and rng.random() < 0.7 else member.account_id,
            key=member.account_id.encode(),
            exporter_id="router-1" if sampled else f"probe-{1 + rng.getrandbits(2)}",
            sampling_rate=10 if sampled else 1,
            ipv4=f"100.{64 + (index >> 16 & 63)}.{index >> 8 & 255}.{index & 255}",
            ipv6=f"2001:db8:{index >> 16 & 0xFFFF:x}:{index & 0xFFFF:x}::{1 + rng.getrandbits(15):x}",
            rat_type=self._rat(),
            serving_plmn=profile.roaming_plmn if rng.random() < profile.roaming_share else profile.home_plmn,
            ja4=rng.choice(_JA4_TLS),
            user_agent=rng.choice(_USER_AGENTS),
        )

    def _make_servers(self) -> list[_Server]:
        body = [self._permille(math.exp(self._rng.gauss(-0.98, 1.4))) for _ in range(_SIZE_STEPS)]
        tail = [self._permille(0.2857 * self._rng.paretovariate(1.4)) for _ in range(_SIZE_STEPS)]
        return [self._server(app, tail if app.category == "streaming" else body) for app in self._profile.applications]

    def _server(self, app: TrafficApplication, permilles: list[int]) -> _Server:
        largest = self._profile.max_flow_octets
        return _Server(
            app=app,
            names=app.names,
            ipv4=tuple(_ipv4(app.network, self._rng) for _ in range(8)),
            ipv6=tuple(_ipv6(app.network, self._rng) for _ in range(8)),
            sizes=[min(largest, 300 + app.mean_octets * permille // 1000) for permille in permilles],
            up_permille=_UP_PERMILLE[app.category],
        )

    @staticmethod
    def _permille(times_the_mean: float) -> int:
        # From here on sizes are ints: chance is measured once, in thousandths of the mean.
        return max(1, min(400_000, int(1000 * times_the_mean)))


def _malformed_step(profile: TrafficProfile) -> int:
    """Every how many records one is broken; 0 = never. Each kind comes at least once."""
    if not profile.malformed_share:
        return 0
    wanted = max(len(MALFORMED_KINDS), round(profile.records * profile.malformed_share))
    return max(2, profile.records // wanted)


def _arrivals(profile: TrafficProfile, rng: Random) -> Iterator[int]:
    """Rising times of publishing, dense where the hour is busy."""
    ends, weights = _weighted_hours(profile)
    total, hour, before, from_ms = weights[-1], 0, 0, profile.start_ms
    for slot in range(profile.records):
        target = (slot * 1024 + rng.getrandbits(10)) * total // (profile.records * 1024)
        while target >= weights[hour]:
            before, from_ms = weights[hour], ends[hour]
            hour += 1
        yield from_ms + (target - before) * (ends[hour] - from_ms) // (weights[hour] - before)


def _weighted_hours(profile: TrafficProfile) -> tuple[list[int], list[int]]:
    """Ends of the clock hours that the profile touches, and the running weight up to each, in weighted ms."""
    ends, weights = [], []
    at_ms, end_ms, total = profile.start_ms, profile.start_ms + profile.duration_ms, 0
    while at_ms < end_ms:
        until_ms = min(end_ms, (at_ms // HOUR_MS + 1) * HOUR_MS)
        total += (until_ms - at_ms) * profile.hour_weights[at_ms // HOUR_MS % 24]
        ends.append(until_ms)
        weights.append(total)
        at_ms = until_ms
    return ends, weights


def _running_sums(weights: Sequence[float]) -> list[float]:
    sums, total = [], 0.0
    for weight in weights:
        total += weight
        sums.append(total)
    return sums


def _packets(octets: int) -> int:
    return octets // SEGMENT_OCTETS + 1 if octets else 0


def _ipv4(network: Network, rng: Random) -> str:
    return f"{network.ipv4}.{rng.getrandbits(8)}.{1 + rng.getrandbits(7)}"


def _ipv6(network: Network, rng: Random) -> str:
    return f"{network.ipv6}::{1 + rng.getrandbits(15):x}"
