"""Whether an account may hold an offering: it is on sale, for such an account, and goes with what is held already."""

from schemas.state import AccountState, Product
from services.engine.eligibility import unmet_by
from services.engine.outcome import Refusal
from services.engine.periods import holds
from services.engine.tariff import CompiledOffering, Tariff


def off_sale(offering: CompiledOffering, at_ms: int) -> Refusal | None:
    """Why nobody can order it at `at_ms`; None when it is on sale."""
    sold = offering.offering
    if sold.lifecycle_status != "active":
        detail = f"offering_id: {sold.id!r} is {sold.lifecycle_status}; only an active offering can be ordered"
        return Refusal("not_on_sale", detail)
    if not holds(sold.valid_from_ms, sold.valid_until_ms, at_ms):
        detail = f"offering_id: {sold.id!r} is on sale from {sold.valid_from_ms} until {sold.valid_until_ms}, not now"
        return Refusal("not_on_sale", detail)
    return None


def ineligible(offering: CompiledOffering, account: AccountState, at_ms: int) -> Refusal | None:
    """Why it is not for such an account; None when it is."""
    condition = offering.offering.eligibility
    missed = unmet_by(condition, account, at_ms) if condition else None
    if condition is None or not missed:
        return None
    wanted = getattr(condition, missed)
    wants = ", ".join(wanted) if isinstance(wanted, tuple) else str(wanted)
    detail = f"offering_id: {offering.offering.id!r} is for {missed} {wants}; this account is not one of them"
    return Refusal("not_eligible", detail)


def misfit(
    offering: CompiledOffering, account: AccountState, tariff: Tariff, *, at_ms: int, replaced_id: str | None = None
) -> Refusal | None:
    """Why it does not go with what is held: requirements, exclusions, one plan to stand on; None when it does.

    It begins at `at_ms`: what has ended by then, or ends for it, is not in its way and is nothing to stand on.
    """
    wanted = offering.offering
    staying = [item for item in account.products if item.product_id != replaced_id and not _is_over(item, at_ms)]
    held = [tariff.offerings.get(product.offering_id) for product in staying]
    others = [compiled.offering for compiled in held if compiled is not None]
    if wanted.requires and not any(other.id in wanted.requires for other in others):
        detail = f"offering_id: {wanted.id!r} requires one of {', '.join(wanted.requires)}; order that first"
        return Refusal("requires", detail)
    for other in others:
        if other.id in wanted.excludes or wanted.id in other.excludes:
            detail = f"offering_id: {wanted.id!r} and {other.id!r} exclude each other; cancel that first"
            return Refusal("excludes", detail)
        if wanted.kind == other.kind == "base_plan":
            detail = f"offering_id: base plan {other.id!r} is held; cancel it before {wanted.id!r}"
            return Refusal("base_plan_held", detail)
    return None


def _is_over(product: Product, at_ms: int) -> bool:
    return product.end_ms is not None and product.end_ms <= at_ms and not product.renews
