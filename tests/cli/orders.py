"""What subscribers order before their traffic arrives: commands over the shipped catalogue."""

from collections.abc import Iterator, Mapping

import msgspec

from schemas.catalogue import Catalogue
from schemas.command import AccountCommand, ActivateProduct, ChangeProfile, Credit, EmitUsage


def orders(catalogue: Catalogue, members: Mapping[str, tuple[str, ...]], at_ms: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of every command: each account gets a plan and some packs; some pay in advance."""
    plans = [offering for offering in catalogue.offerings if offering.kind == "base_plan"]
    packs = [offering.id for offering in catalogue.offerings if offering.kind != "base_plan"]
    for number, (account, ids) in enumerate(members.items()):
        plan = plans[number % len(plans)]
        payments = plan.eligibility.payments if plan.eligibility else ()
        payment = next(iter(payments), "postpaid" if number % 3 else "prepaid")
        yield _order(ChangeProfile(**_issued(account, "profile", at_ms), subscriber_ids=ids, payment=payment))
        yield _order(Credit(**_issued(account, "credit", at_ms), amount="30"))
        yield _order(ActivateProduct(**_issued(account, "plan", at_ms), product_id="plan", offering_id=plan.id))
        for position, pack in enumerate(packs):
            if (number + position) % 3 == 0:
                yield _order(ActivateProduct(**_issued(account, pack, at_ms), product_id=pack, offering_id=pack))


def emission(account: str, at_ms: int) -> tuple[bytes, bytes]:
    """Key and value of the command to emit what is gathered."""
    return _order(EmitUsage(**_issued(account, "emit", at_ms)))


def _issued(account: str, name: str, at_ms: int) -> dict[str, object]:
    return {"version": "1.0", "command_id": f"{account}-{name}", "account_id": account, "issued_at_ms": at_ms}


def _order(command: AccountCommand) -> tuple[bytes, bytes]:
    return command.account_id.encode(), msgspec.json.encode(command)
