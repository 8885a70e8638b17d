"""What a gateway is told when the rules in force are not those it has: each rule that came, changed or went."""

from collections.abc import Mapping

from msgspec.structs import replace

from schemas.decision import UPDATE_VERSION, PolicyUpdate
from schemas.state import AccountState
from services.engine.effective import rules_in_force
from services.engine.identity import short
from services.engine.members import alike_installed, groups, with_installed
from services.engine.tariff import CompiledRule, Tariff


def changes_of(
    account: AccountState, tariff: Tariff, *, at_ms: int, cause: str
) -> tuple[AccountState, list[tuple[str, PolicyUpdate]]]:
    """The account with the marks of its rules in force, and what differs from those installed, each with its mark.

    Members who meet the same rules, and had the same, are told together.
    """
    told: dict[str, tuple[str, ...]] = {}
    changed: list[tuple[str, PolicyUpdate]] = []
    for group in groups(account, tariff):
        in_force = list(rules_in_force(group, tariff))
        marks = tuple(mark_of(rule, barred=barred) for rule, barred in in_force)
        told.update(dict.fromkeys(group.subscriber_ids, marks))
        for before, members in alike_installed(account, group.subscriber_ids):
            if before != marks:
                changed += _differences(replace(group, subscriber_ids=members), in_force, before, at_ms, cause)
    in_order = {member: told[member] for member in account.subscriber_ids}
    return with_installed(account, in_order), changed


def _differences(
    account: AccountState, in_force: list[tuple[CompiledRule, bool]], installed: tuple[str, ...], at_ms: int, cause: str
) -> list[tuple[str, PolicyUpdate]]:
    before = {rule_of(mark): mark for mark in installed}
    changed = [
        (mark, drafted(account, _action(rule, before), rule, barred=barred, at_ms=at_ms, cause=cause))
        for rule, barred in in_force
        if before.get(rule.rule.id) != (mark := mark_of(rule, barred=barred))
    ]
    gone = before.keys() - {rule.rule.id for rule, _ in in_force}
    return changed + [(f"{rule_id}#", removal(account, rule_id, at_ms, cause)) for rule_id in sorted(gone)]


def mark_of(rule: CompiledRule, *, barred: bool) -> str:
    """What `AccountState.installed_rules` says of a rule in force, whose gate is closed where it is `barred`."""
    return rule.closed_mark if barred else rule.open_mark


def rule_of(mark: str) -> str:
    """The rule of a mark of `AccountState.installed_rules`."""
    return mark.partition("#")[0]


def numbered(account: AccountState, drafts: list[PolicyUpdate]) -> tuple[AccountState, tuple[PolicyUpdate, ...]]:
    """Give each update its number of the account."""
    if not drafts:
        return account, ()
    first, name = account.next_update, short(account.account_id)
    updates = tuple(replace(draft, update_id=f"{name}:{first + n}") for n, draft in enumerate(drafts))
    return replace(account, next_update=first + len(updates)), updates


def removal(account: AccountState, rule_id: str, at_ms: int, cause: str) -> PolicyUpdate:
    """The update that takes a rule away; `numbered` gives it its id."""
    return PolicyUpdate(
        version=UPDATE_VERSION, update_id="-", account_id=account.account_id, subscriber_ids=account.subscriber_ids,
        action="remove", rule_id=rule_id, at_ms=at_ms, cause=cause, catalogue_version=account.catalogue_version,
    )  # fmt: skip


def drafted(
    account: AccountState, action: str, rule: CompiledRule, *, barred: bool, at_ms: int, cause: str
) -> PolicyUpdate:
    """The update that installs or changes a rule, its gate closed where it is `barred`; `numbered` gives it its id."""
    return PolicyUpdate(
        version=UPDATE_VERSION,
        update_id="-",
        account_id=account.account_id,
        subscriber_ids=account.subscriber_ids,
        action=action,  # type: ignore[arg-type]
        rule_id=rule.rule.id,
        at_ms=at_ms,
        cause=cause,
        catalogue_version=account.catalogue_version,
        precedence=rule.rule.precedence,
        rating_group=rule.rule.rating_group,
        gate_status="closed" if barred else rule.rule.gate_status,
        applications=rule.rule.scope.applications,
        categories=rule.rule.scope.categories,
        qos=rule.qos,
        sponsor_id=rule.campaign.sponsor_id if rule.campaign else None,
        services=rule.rule.scope.services,
        rat_types=rule.rule.scope.rat_types,
        plmns=rule.networks.wanted,
        except_plmns=rule.networks.unwanted,
        dnns=rule.rule.scope.dnns,
        min_congestion=rule.rule.min_congestion,
        max_congestion=rule.rule.max_congestion,
        suspect=rule.rule.suspect,
        redirect_url=rule.rule.redirect_url,
        steering=rule.rule.steering,
    )


def _action(rule: CompiledRule, before: Mapping[str, str]) -> str:
    return "modify" if rule.rule.id in before else "install"
