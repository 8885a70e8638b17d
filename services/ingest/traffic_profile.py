"""What traffic to generate: whose, how much, when, and how much of it is broken."""

import dataclasses
from collections.abc import Mapping

from services.ingest.traffic_applications import APPLICATIONS, TrafficApplication

DIURNAL: tuple[int, ...] = (
    34, 22, 14, 10, 9, 12, 25, 48, 62, 66, 70, 74,
    80, 78, 74, 76, 82, 90, 97, 100, 100, 96, 80, 55,
)  # fmt: skip
"""Weight of each hour of the day (UTC): mobile networks are busiest in the evening."""

MIN_RECORDS_WITH_MALFORMED = 40
"""Fewer records cannot hold one of each malformed kind and still be mostly good."""


@dataclasses.dataclass(frozen=True)
class TrafficSubscriber:
    """A subscriber and the account that pays for it: its own id when it pays for itself."""

    subscriber_id: str
    account_id: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrafficProfile:
    """One stretch of traffic. Shares are parts of 1 of all records; times are event time, ms since 1970 UTC.

    Raises ValueError, naming the field, its value and the rule, when a value makes no sense.
    """

    subscribers: tuple[TrafficSubscriber, ...]
    records: int
    start_ms: int
    duration_ms: int
    applications: tuple[TrafficApplication, ...] = APPLICATIONS
    """Most popular first."""
    zipf_exponent: float = 1.0
    """How much more popular than its successor an application is; 0 = all alike."""
    duplicate_share: float = 0.01
    """Records delivered a second time, octet for octet."""
    malformed_share: float = 0.001
    """Broken records, spread evenly, each kind in turn; above 0 there is at least one of each kind."""
    dns_share: float = 0.06
    unlisted_share: float = 0.06
    """Flows to names that no catalogue lists."""
    nameless_share: float = 0.05
    """Flows of known applications without any name: encrypted client hello, or a flow picked up in its middle."""
    failed_share: float = 0.02
    """Flows that were reset or never answered: nothing came down."""
    spoofed_share: float = 0.0005
    """Flows that borrow the server name of another application."""
    late_share: float = 0.002
    """Records that reach the log up to ten minutes after their interval."""
    ipv6_share: float = 0.35
    exporter_application_share: float = 0.2
    """Flows whose exporter has an inspection of its own and says what it saw."""
    home_plmn: str = "00101"
    """Serving network at home, MCC and MNC; by default that of test networks (TS 23.003)."""
    roaming_plmn: str = "90170"
    sampled_share: float = 0.02
    """Subscribers behind an exporter that counts one packet in ten."""
    roaming_share: float = 0.01
    interval_ms: int = 60_000
    """How often an exporter reports a flow that goes on."""
    max_flow_octets: int = 4 * 10**9
    oversized_octets: int = 300_000
    """Size of an oversized record; it has to be above the setting max_record_octets."""
    hour_weights: tuple[int, ...] = DIURNAL

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(problem)


def make_subscribers(count: int, *, family_permille: int = 200, family_size: int = 4) -> tuple[TrafficSubscriber, ...]:
    """`count` subscribers `sub-000001` ...; about family_permille of them share accounts `fam-00001` ... by fours."""
    in_families = count * family_permille // 1000 // family_size * family_size
    members = tuple(
        TrafficSubscriber(f"sub-{number + 1:06d}", f"fam-{number // family_size + 1:05d}")
        for number in range(in_families)
    )
    singles = tuple(
        TrafficSubscriber(f"sub-{number + 1:06d}", f"sub-{number + 1:06d}") for number in range(in_families, count)
    )
    return members + singles


def members_of(subscribers: tuple[TrafficSubscriber, ...]) -> Mapping[str, tuple[str, ...]]:
    """The accounts of `subscribers` with their members, in order: what has to be subscribed before the traffic."""
    members: dict[str, list[str]] = {}
    for subscriber in subscribers:
        members.setdefault(subscriber.account_id, []).append(subscriber.subscriber_id)
    return {account: tuple(ids) for account, ids in members.items()}


def _problems(profile: TrafficProfile) -> list[str]:
    found = []
    if not profile.subscribers:
        found.append("subscribers: none given; traffic needs at least one")
    if not profile.applications:
        found.append("applications: none given; traffic needs at least one")
    if profile.records < 0:
        found.append(f"records: {profile.records} is negative; give 0 or more")
    if profile.malformed_share and profile.records < MIN_RECORDS_WITH_MALFORMED:
        found.append(
            f"records: {profile.records} leaves no room for one record of each malformed kind; "
            f"give at least {MIN_RECORDS_WITH_MALFORMED} or set malformed_share to 0"
        )
    if profile.duration_ms < 1 or profile.start_ms < 0:
        found.append(
            f"duration_ms: {profile.duration_ms} from {profile.start_ms} is no stretch of time; give 1 or more"
        )
    if len(profile.hour_weights) != len(DIURNAL) or min(profile.hour_weights) < 1:
        found.append(f"hour_weights: {profile.hour_weights} has to be {len(DIURNAL)} numbers, each 1 or more")
    shares = [field.name for field in dataclasses.fields(profile) if field.name.endswith("_share")]
    found += [
        f"{name}: {getattr(profile, name)} is not a share; give 0 or more and less than 1"
        for name in shares
        if not 0 <= getattr(profile, name) < 1
    ]
    return found
