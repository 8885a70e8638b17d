"""Members of an account who meet other rules than the rest: who has used up a share, or had what a campaign pays.

Rules are installed for each member. Most accounts have members who all meet the same ones, and then there is one
group; a member whose share of a bucket is used up, or who has had what a campaign pays for each, is in another.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from schemas.catalogue import Campaign
from schemas.state import AccountState
from services.engine.caps import campaign_counter
from services.engine.select import plan_of
from services.engine.standing import standing_for
from services.engine.tariff import Tariff


def groups(account: AccountState, tariff: Tariff) -> Iterator[AccountState]:
    """The account as each group of members meets it who meet the same rules: its members are theirs, and its standing.

    Standings must be up to date. Of several groups, the one of the account's first member comes first.
    """
    campaigns = _capped(account, tariff)
    if not account.member_standings and (not campaigns or len(account.subscriber_ids) < 2):
        yield account
        return
    octets = {counter.counter_id: counter.octets for counter in account.counters}
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for member in account.subscriber_ids:
        had = tuple(item.id for item in campaigns if _has_had(item, member, octets))
        alike.setdefault((standing_for(account, member), had), []).append(member)
    for (standing, _), members in alike.items():
        yield replace(account, subscriber_ids=tuple(members), standing=standing, member_standings=())


def installed_for(account: AccountState, subscriber_id: str) -> tuple[str, ...]:
    """The marks of the rules that were told last for one member."""
    for member, marks in account.member_rules:
        if member == subscriber_id:
            return marks
    return account.installed_rules


def alike_installed(account: AccountState, members: Iterable[str]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The members by what was told last for them: those marks, and who has them."""
    having: dict[tuple[str, ...], list[str]] = {}
    for member in members:
        having.setdefault(installed_for(account, member), []).append(member)
    for marks, who in having.items():
        yield marks, tuple(who)


def with_installed(account: AccountState, told: Mapping[str, tuple[str, ...]]) -> AccountState:
    """The account with the marks of the rules that were told for each of its members."""
    if not told:
        return account
    ((common, _),) = Tally(told.values()).most_common(1)
    others = tuple((member, marks) for member, marks in told.items() if marks != common)
    if (common, others) == (account.installed_rules, account.member_rules):
        return account
    return replace(account, installed_rules=common, member_rules=others)


def _capped(account: AccountState, tariff: Tariff) -> list[Campaign]:
    """The campaigns of the account's rules that pay no more than so much for each member, each once."""
    found = (line.rule.campaign for line in plan_of(account.standing, tariff).lines)
    campaigns = {item.id: item for item in found if item is not None and item.per_subscriber_octets is not None}
    return list(campaigns.values())


def _has_had(campaign: Campaign, member: str, octets: Mapping[str, int]) -> bool:
    return octets.get(campaign_counter(campaign.id, member), 0) >= (campaign.per_subscriber_octets or 0)
