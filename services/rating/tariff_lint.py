"""What a tariff can say that is allowed and yet a mistake. docs/catalogue.md lists the codes.

Each check looks at a whole catalogue and yields findings. What can be held together is looked at, not every pair: two
offerings that exclude each other, or stand on different plans, never meet in one account.
"""

from collections.abc import Callable, Iterator, Mapping

from services.rating import tariff_lint_offers as offers
from services.rating import tariff_lint_people as people
from services.rating import tariff_lint_plans as plans
from services.rating import tariff_lint_prices as prices
from services.rating import tariff_lint_refunds as refunds
from services.rating import tariff_lint_rules as rules
from services.rating import tariff_lint_sales as sales
from services.rating import tariff_lint_traffic as traffic
from services.rating import tariff_lint_words as words
from services.rating.catalogue_files import CatalogueSource
from services.rating.findings import Finding
from services.rating.tariff_lint_view import View

CHECKS: Mapping[str, tuple[Callable[[View], Iterator[Finding]], ...]] = {
    "unreachable-rule": (rules.unreachable_rules, rules.rules_for_nobody, rules.spend_of_nothing),
    "misspelt": (people.misspelt_groups,),
    "charged-before-free": (rules.charged_before_free, prices.charged_before_sponsored),
    "equal-precedence": (rules.equal_precedences,),
    "no-traffic": (traffic.traffic_of_nobody,),
    "bucket-elsewhere": (traffic.buckets_elsewhere,),
    "no-allowance": (rules.missing_allowances,),
    "throttle-without-qos": (rules.throttles_without_qos,),
    "weak-evidence": (rules.weak_evidence,),
    "duplicate-id": (prices.ids_of_parts,),
    "price-id": (prices.usage_price_ids,),
    "price-cliff": (
        prices.falling_tiers, prices.rising_volumes, prices.caps_below_a_unit, prices.caps_of_nothing_much,
        prices.packs_dearer_than_usage, prices.bigger_packs_cheaper, plans.steps_between_plans,
    ),
    "paid-under-free": (prices.paid_under_free, prices.paid_beside_free, prices.sponsored_under_free),
    "paid-under-gate": (traffic.paid_under_gate,),
    "gap": (offers.gaps, traffic.networks_of_no_zone),
    "overlap": (offers.overlaps,),
    "validity": (offers.validity,),
    "time-of-anything": (offers.time_of_anything,),
    "renewal": (offers.renewals,),
    "unorderable": (sales.unorderable,),
    "sale-over": (sales.sales_that_are_over,),
    "pass-price": (sales.recurring_passes, sales.endless_passes),
    "cheap-volume": (refunds.cheaply_emptied,),
    "no-effect": (words.without_effect, traffic.windows_of_always),
    "rates": (words.rates,),
    "sponsor-budget": (offers.campaigns,),
    "settlement-terms": (offers.settlements,),
}  # fmt: skip
"""The checks by their code; `sponsor-budget` also yields `campaign-over` and `campaign-unused`."""


def lint_tariff(source: CatalogueSource, *, at_ms: int) -> list[Finding]:
    """All findings over offerings, rules and campaigns as they stand at `at_ms`, in no order."""
    view = View(source, at_ms)
    return [finding for checks in CHECKS.values() for check in checks for finding in check(view)]
