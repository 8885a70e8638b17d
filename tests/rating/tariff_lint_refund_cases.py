"""Tariffs whose volume can be had for the price of a day, and others that look like them."""

from tests.rating.tariff_lint_cases import case

BY_DAY = """
offerings:
- id: plan
  name: P
  kind: base_plan
  prices:
  - {id: fee, type: recurring, amount: 30, %s}
  allowances: [{id: v, octets: 30 GB%s}]
"""
WHOLE, DAILY = "", ", proration: daily"
case(
    "volume granted whole for a price that comes back by the day", BY_DAY % ("refund: daily", WHOLE), "6 cheap-volume?"
)
case("volume granted whole for a price by the days left", BY_DAY % ("proration: daily", WHOLE), "6 cheap-volume?")
case("volume granted by the day for a price by the day", BY_DAY % ("proration: daily, refund: daily", DAILY))
case("volume granted whole for a whole price", BY_DAY % ("refund: none", WHOLE))
case(
    "money granted for a price that comes back by the day",
    BY_DAY % ("refund: daily", DAILY)
    + "  usage_prices: [{id: rest, amount: 1}]\n  money_allowances: [{id: gift, amount: 5}]\n",
    "6 cheap-volume?",
)
case("a price of nothing that comes back", (BY_DAY % ("refund: daily", WHOLE)).replace("amount: 30", "amount: 0"))
