"""Settlement with partners: what each sponsor owes for what its campaigns paid for in a period.

Octets and connections are summed first, over all rows under the same terms, and priced once: so it makes no difference
over how many rows, lanes or subscribers the traffic was spread. The terms are those of the catalogue version under
which each row was rated; where they changed within the period, a campaign has a line for each.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from schemas.catalogue import OCTETS_PER_GB, Campaign, SettlementTerms
from schemas.topics import USAGE
from services.rating.database import Engine, reading
from services.rating.repositories import ledger as books
from services.rating.repositories import settlements
from services.rating.repositories.settlements import Share, StoredCampaign

Unit = Literal["octets", "connections"]


class SettlementRefused(Exception):  # noqa: N818 - a state of affairs
    """There is no such statement; the message names the option, the value, the rule and the next step."""


class Agreement(NamedTuple):
    """Whom a campaign is billed to, and by what, under one catalogue version."""

    sponsor_id: str
    campaign_id: str
    currency: str
    terms: SettlementTerms | None
    """None: nothing was agreed on."""


class Charge(NamedTuple):
    """One price of a statement: `quantity` at `price_micros` for `per`, rounded half to even, once."""

    unit: Unit
    quantity: int
    price_micros: int
    per: int
    amount_micros: int


class Line(NamedTuple):
    """What one campaign is billed under one agreement."""

    agreement: Agreement
    catalogue_versions: tuple[str, ...]
    """Versions under which rows were rated, oldest first."""
    octets: int
    """Without what was given back."""
    connections: int
    returned_octets: int
    returned_connections: int
    charges: tuple[Charge, ...]

    @property
    def amount_micros(self) -> int | None:
        """What it comes to; None without terms."""
        return sum(charge.amount_micros for charge in self.charges) if self.agreement.terms else None


class Statement(NamedTuple):
    """What sponsors owe for usage that ended in `from_ms <= end < until_ms`."""

    from_ms: int
    until_ms: int
    booked_until_ms: int
    """Everything that was rated until then is in the ledger."""
    lines: tuple[Line, ...]
    """By sponsor, campaign, and age of the terms."""

    def totals(self, sponsor_id: str) -> dict[str, int]:
        """What a sponsor owes, in micro-units by currency."""
        sums: dict[str, int] = {}
        for line in self.lines:
            if line.agreement.sponsor_id == sponsor_id and line.amount_micros is not None:
                currency = line.agreement.currency
                sums[currency] = sums.get(currency, 0) + line.amount_micros
        return sums

    def sponsor_ids(self) -> tuple[str, ...]:
        """Sponsors that have a line."""
        return tuple(dict.fromkeys(line.agreement.sponsor_id for line in self.lines))


def draw_up(
    engine: Engine, from_ms: int, until_ms: int, *, sponsor_id: str | None = None, campaign_id: str | None = None
) -> Statement:
    """The statement of a period from the ledger, of one sponsor or campaign or of all.

    Raises SettlementRefused for a period without a moment, and for a sponsor or campaign that nobody knows; and
    DatabaseDown.
    """
    if from_ms >= until_ms:
        raise SettlementRefused("--to: the period ends at or before its start, --from; give a later --to")
    with reading(engine) as connection:
        found = settlements.shares(connection, from_ms, until_ms)
        stored = settlements.campaigns(connection)
        booked_until_ms = books.booked_until_ms(connection, USAGE)
    agreed = agreements(stored)
    lines = settle(found, agreed)
    known = [*agreed.values(), *(line.agreement for line in lines)]
    _check_known("--sponsor", sponsor_id, {item.sponsor_id for item in known})
    _check_known("--campaign", campaign_id, {item.campaign_id for item in known})
    wanted = [line for line in lines if sponsor_id in (None, _sponsor(line)) and campaign_id in (None, _campaign(line))]
    return Statement(from_ms, until_ms, booked_until_ms, tuple(wanted))


def agreements(stored: Iterable[StoredCampaign]) -> dict[tuple[str, str], Agreement]:
    """What was agreed on, by catalogue version and campaign, in the order in which versions were published."""
    found = {}
    for item in stored:
        campaign = Campaign.model_validate(item.body)
        agreement = Agreement(campaign.sponsor_id, campaign.id, item.currency, campaign.terms())
        found[item.version, campaign.id] = agreement
    return found


def settle(shares: Sequence[Share], agreed: Mapping[tuple[str, str], Agreement]) -> tuple[Line, ...]:
    """The lines of a statement: pure, from sums over rows. What campaigns got back is off before anything is priced."""
    ages = {version: age for age, (version, _) in enumerate(agreed)}
    gathered: dict[Agreement, list[Share]] = {}
    for share in sorted(shares, key=lambda item: ages.get(item.catalogue_version, -1)):
        gathered.setdefault(_agreement_of(share, agreed), []).append(share)
    lines = [_line(agreement, found) for agreement, found in gathered.items()]
    return tuple(sorted(lines, key=lambda line: (_sponsor(line), _campaign(line))))


def rounded(number: int, divisor: int) -> int:
    """`number / divisor` to the nearest whole, halves to the even one: so that many lines err to neither side."""
    whole, rest = divmod(number, divisor)
    return whole + (2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1))


def _agreement_of(share: Share, agreed: Mapping[tuple[str, str], Agreement]) -> Agreement:
    """A row whose version the catalogue's store does not hold is shown, and cannot be priced."""
    unknown = Agreement(share.sponsor_id or "unknown", share.campaign_id, "", None)
    return agreed.get((share.catalogue_version, share.campaign_id), unknown)


def _line(agreement: Agreement, shares: Sequence[Share]) -> Line:
    back_octets, back_connections = _sums(share for share in shares if share.is_refund)
    octets, connections = _sums(share for share in shares if not share.is_refund)
    octets, connections = octets - back_octets, connections - back_connections
    versions = tuple(dict.fromkeys(share.catalogue_version for share in shares))
    charges = tuple(_charges(agreement.terms, octets, connections)) if agreement.terms else ()
    return Line(agreement, versions, octets, connections, back_octets, back_connections, charges)


def _sums(shares: Iterable[Share]) -> tuple[int, int]:
    found = list(shares)
    return sum(share.octets for share in found), sum(share.connections for share in found)


def _charges(terms: SettlementTerms, octets: int, connections: int) -> Iterator[Charge]:
    if (price := terms.amount_per_gb) is not None:
        yield Charge("octets", octets, price, OCTETS_PER_GB, rounded(octets * price, OCTETS_PER_GB))
    if (price := terms.amount_per_connections) is not None:
        per = terms.per_connections
        yield Charge("connections", connections, price, per, rounded(connections * price, per))


def _sponsor(line: Line) -> str:
    return line.agreement.sponsor_id


def _campaign(line: Line) -> str:
    return line.agreement.campaign_id


def _check_known(option: str, value: str | None, known: set[str]) -> None:
    if value is not None and value not in known:
        what = option.removeprefix("--")
        names = f"known are {', '.join(sorted(known))}" if known else f"no catalogue has had a {what} yet"
        raise SettlementRefused(f"{option}: no {what} is called {value!r}; {names}")
