"""The people of the demo: who subscribes to what. The same seed gives the same people."""

from collections.abc import Iterator, Sequence
from random import Random

from schemas.catalogue import Catalogue, ProductOffering
from schemas.command import AccountCommand, ActivateProduct, ChangeProfile, Credit
from services.ingest.traffic_profile import TrafficSubscriber, members_of

ZONES = ("Europe/Berlin", "Europe/Lisbon", "America/Sao_Paulo", "Asia/Kolkata", "Africa/Nairobi")
AGE_BANDS = ("under-18", "18-25", "26-40", "41-65", "over-65")
LEVELS = ("low", "middle", "high", "potential_high")
MOST_ADD_ONS = 4
PREPAID_TOP_UPS = ("5.00", "10.00", "20.00")


def orders(
    subscribers: Sequence[TrafficSubscriber], catalogue: Catalogue, *, seed: int, now_ms: int
) -> Iterator[AccountCommand]:
    """The commands that make each account a customer: profile, base plan, some add-ons that it may hold."""
    rng = Random(seed)  # noqa: S311 - people, not secrets
    plans = [offering for offering in catalogue.offerings if offering.kind == "base_plan"]
    add_ons = [offering for offering in catalogue.offerings if offering.kind != "base_plan"]
    for account_id, members in members_of(tuple(subscribers)).items():
        plan = rng.choice(plans)
        yield _profile(account_id, members, plan, rng, now_ms)
        if _is_prepaid(plan):
            yield Credit(
                version="1.0", command_id=f"{account_id}-topup", account_id=account_id, issued_at_ms=now_ms,
                amount=rng.choice(PREPAID_TOP_UPS), reason="first top-up",
            )  # fmt: skip
        for number, offering in enumerate((plan, *_choice(plan, add_ons, rng)), start=1):
            yield ActivateProduct(
                version="1.0", command_id=f"{account_id}-{number}", account_id=account_id, issued_at_ms=now_ms,
                product_id=f"p{number}", offering_id=offering.id,
            )  # fmt: skip


def _profile(
    account_id: str, members: tuple[str, ...], plan: ProductOffering, rng: Random, now_ms: int
) -> ChangeProfile:
    return ChangeProfile(
        version="1.0",
        command_id=f"{account_id}-0",
        account_id=account_id,
        issued_at_ms=now_ms,
        subscriber_ids=members,
        segment="group" if len(members) > 1 else "individual",
        age_band=rng.choice(AGE_BANDS),
        consumption_level=rng.choice(LEVELS),
        payment="prepaid" if _is_prepaid(plan) else "postpaid",
        time_zone=rng.choice(ZONES),
        cycle_day=rng.randrange(1, 29),
    )


def _is_prepaid(plan: ProductOffering) -> bool:
    return plan.id.startswith("prepaid")


def _choice(plan: ProductOffering, add_ons: Sequence[ProductOffering], rng: Random) -> list[ProductOffering]:
    """Some add-ons that fit the plan and each other. Prepaid people begin with none that costs money."""
    chosen: list[ProductOffering] = []
    for offering in rng.sample(add_ons, len(add_ons)):
        held = {plan.id, *(item.id for item in chosen)}
        fits = not offering.requires or held & set(offering.requires)
        clashes = held & set(offering.excludes) or any(offering.id in item.excludes for item in chosen)
        costs = _is_prepaid(plan) and offering.prices
        if fits and not clashes and not costs:
            chosen.append(offering)
        if len(chosen) == MOST_ADD_ONS:
            break
    return chosen[: rng.randrange(MOST_ADD_ONS + 1)]
