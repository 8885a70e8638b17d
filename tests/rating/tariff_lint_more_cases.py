"""More tariffs with one mistake each: traffic of nobody, sales that cannot be, words without effect."""

from tests.rating.tariff_lint_cases import CAPPED, LADDER, NOT_USED, REQUIRES, SHADOW, SPONSOR, case, rules

# Scopes that no traffic is in.

SEEN = """
offerings:
- id: plan
  name: P
  kind: base_plan
  usage_prices: [{id: rest, amount: 1}]
  allowances:
  - {id: v, octets: 1 GB, scope: {%s}}
"""
case("an application of its category", SEEN % "applications: [pics], categories: [social]")
case("an application of another category than its own", SEEN % "applications: [pics], categories: [streaming]",
     "7 no-traffic")  # fmt: skip
case("one of two applications of another category", SEEN % "applications: [pics, film], categories: [social]",
     "7 no-traffic?")  # fmt: skip
case("a service of its application", SEEN % "applications: [chat], services: [call]")
case("a service of another application", SEEN % "applications: [film], services: [call]", "7 no-traffic")
case("a service of the category", SEEN % "categories: [voip_im], services: [call]")
case("a misspelt service", SEEN % "categories: [voip_im], services: [kall]", "7 no-traffic")
case("a misspelt service beside another", SEEN % "services: [kall, call]", "7 no-traffic?")
case("what the classifier tells by itself", SEEN % "services: [dns, upload]")
case(
    "a call rated elsewhere than its application", SEEN % "applications: [pics], categories: [voip_im]", "7 no-traffic"
)

# Rules that wait for another's bucket.

WAITING = """
rules:
- {id: r, precedence: 10, scope: {%s}, bucket: {allowance: v, state: available}, qos: {arp: 8}}
offerings:
- {id: a, name: A, kind: add_on, rules: [r], allowances: [{id: v, octets: 1 GB, scope: {%s}}]}
"""
case("a rule that waits for its own bucket", WAITING % ("applications: [pics]", "categories: [social]"))
case("a rule that waits for general data", WAITING % ("applications: [pics]", ""))
case("a rule that waits for another's bucket", WAITING % ("applications: [pics]", "applications: [film]"),
     "2 bucket-elsewhere?")  # fmt: skip
MORNING, EVENING = "windows: [{start: '06:00', end: '12:00'}]", "windows: [{start: '18:00', end: '23:00'}]"
case("a rule that waits for a bucket of other hours", WAITING % (MORNING, EVENING), "2 bucket-elsewhere?", "4 gap?")

# Rules for nobody, and rules that only doubt leaves something to.

case("a rule for who cannot order its offering", rules("", "subscribers: {offerings: [other]}", plan="two", more=(
    "- {id: other, name: O, kind: base_plan, rules: [one]}")), "3 unreachable-rule?")  # fmt: skip
case("a rule for who can hold both", rules("", "subscribers: {offerings: [extra]}", plan="two", addon="one"))
PEOPLE = """
rules:
- {id: r, precedence: 10, subscribers: {payments: [%s]}}
offerings:
- {id: a, name: A, kind: base_plan, eligibility: {payments: [prepaid]}, rules: [r]}
"""
case("a rule for other people than its offering", PEOPLE % "postpaid", "2 unreachable-rule?")
case("a rule for the people of its offering", PEOPLE % "prepaid")
case("an add-on that only doubt leaves something to", rules("min_confidence: 50", "", plan="one", addon="two"),
     f"{SHADOW}?")  # fmt: skip
case("a fallback for doubt in the same offering", rules("min_confidence: 50", ""))

# Rules that others leave nothing to, piece by piece.

LAYERS = """
rules:
- {id: one, precedence: 10, %s}
- {id: two, precedence: 20, %s}
- {id: three, precedence: 30, %s}
offerings:
- id: plan
  name: P
  kind: base_plan
  rules: [one, two, three]
  usage_prices: [{id: use, amount: 1}]
  allowances: [{id: v, octets: 9 GB%s}]
campaigns:
- {id: spring, sponsor_id: s, per_subscriber_octets: 1 GB, valid_from_ms: 5, valid_until_ms: 1800000000000}
- {id: always, sponsor_id: t, per_subscriber_octets: 1 GB}
"""
UNUSED = ("13 campaign-unused?", "14 campaign-unused?")
GONE = "4 unreachable-rule"


def layers(one: str, two: str, three: str = "", *, volume: str = "") -> str:
    return LAYERS % (one, two, three, volume)


def bucket(state: str, percent: int = 0) -> str:
    return f"bucket: {{allowance: v, state: {state}{f', percent: {percent}' if percent else ''}}}"


case("two rules share all levels of congestion", layers("max_congestion: 10", "min_congestion: 11"), GONE, *UNUSED)
case("a level of congestion is left", layers("max_congestion: 10", "min_congestion: 12"), *UNUSED)
case("a level that the third is not for is left", layers("max_congestion: 10", "min_congestion: 12",
     "min_congestion: 12"), GONE, *UNUSED)  # fmt: skip
case("two rules share all amounts", layers("spend: {below: 5}", "spend: {at_least: 5}"), GONE, *UNUSED)
case("an amount is left", layers("spend: {below: 5}", "spend: {at_least: 6}"), *UNUSED)
case("empty is also used", layers(bucket("used", 80), "max_congestion: 0", bucket("exhausted")), GONE, *UNUSED)
case("empty is not used to a member with a share", layers(bucket("used", 80), "max_congestion: 0", bucket("exhausted"),
     volume=", per_member_octets: 1 GB"), *UNUSED)  # fmt: skip
case("more used is also less used", layers(bucket("used", 80), "max_congestion: 0", bucket("used", 90)), GONE, *UNUSED)
case("less used is not more used", layers(bucket("used", 90), "max_congestion: 0", bucket("used", 80)), *UNUSED)
case("fresh is available", layers(bucket("available"), "max_congestion: 0", bucket("fresh", 50)), GONE, *UNUSED)
case("untouched is fresh", layers(bucket("fresh", 50), "max_congestion: 0", bucket("fresh")), GONE, *UNUSED)
case("fresh is not untouched", layers(bucket("fresh"), "max_congestion: 0", bucket("fresh", 50)), *UNUSED)
PAID = "charging: sponsored, min_confidence: 60, scope: {applications: [pics]}, campaign: "
case("a campaign behind one that always runs", layers(f"{PAID}always", "max_congestion: 0", f"{PAID}spring"), GONE)
case("a campaign behind one that ends", layers(f"{PAID}spring", "max_congestion: 0", f"{PAID}always"))
case("money that nobody is asked for", LAYERS.replace("  usage_prices: [{id: use, amount: 1}]\n", "") % (
     "spend: {at_least: 5}", "max_congestion: 0", "", ""), "2 unreachable-rule?", "12 campaign-unused?",
     "13 campaign-unused?")  # fmt: skip

BESIDE = """
offerings:
- id: plan
  name: P
  kind: base_plan
  usage_prices:
  - {id: use, amount: 1, scope: {categories: [voip_im]}}
  - {id: conn, amount: 1, unit: %s, scope: {categories: [voip_im]}}
"""
case("connections are priced beside octets", BESIDE % "connection")
case("octets are priced once", BESIDE % "octets", "7 overlap?")

# Paid for, and stopped by a gate.

GATED = """
rules:
- {id: shut, precedence: 20, gate_status: closed, min_confidence: %s, scope: {%s}}
- {id: open, precedence: %s, scope: {applications: [pics]}, qos: {arp: 8}}
offerings:
- {id: plan, name: P, kind: base_plan, rules: [shut], usage_prices: [{id: rest, amount: 1}]}
- {id: a, name: A, kind: add_on, requires: [plan], allowances: [{id: v, octets: 1 GB, scope: {applications: [pics]}}]}
- {id: b, name: B, kind: add_on, requires: [plan], rules: [open]}
"""
PICS = "applications: [pics]"
case("an allowance behind a gate", GATED % (0, "rat_types: [NR, EUTRA], applications: [chat]", 9), "2 weak-evidence?")
case("an allowance that another offering opens", GATED % (40, PICS, 10))
case("an allowance partly behind a gate", GATED % (40, f"{PICS}, rat_types: [NR]", 30))
case("an allowance that doubt alone lets through", GATED % (40, PICS, 30), "3 unreachable-rule?", "6 paid-under-gate?")
case("an allowance that nothing lets through", GATED % (0, "", 30), "3 unreachable-rule", "5 paid-under-gate",
     "6 paid-under-gate")  # fmt: skip

# Prices side by side.

case("a cap after two kilobytes", CAPPED.replace("1 GB", "1 kB") % "cap: 8", "6 price-cliff?")
case("a cap after two megabytes", CAPPED.replace("1 GB", "1 MB") % "cap: 8")
case("two small packs are cheaper", LADDER % (1, 6, "continue"), "10 price-cliff?")
case("three small packs cost as much", LADDER % (2, 6, "continue"))
case("as many small packs cannot be held", LADDER.replace("id: small", "max_held: 2\n  id: small") % (1, 6, "continue"))

FAST = """
offerings:
- {id: small, name: S, kind: add_on, rules: [%s], prices: [{id: fee, type: recurring, amount: 5}],
   allowances: [{id: v, octets: 2 GB}]}
- {id: big, name: B, kind: add_on, rules: [%s], prices: [{id: fee, type: recurring, amount: 4}],
   allowances: [{id: v, octets: 5 GB}]}
- {id: all, name: C, kind: add_on, rules: [plain, fast, shut, slow]}
rules:
- {id: plain, precedence: 40, scope: {applications: [chat]}, bucket: {allowance: v, state: available}}
- {id: fast, precedence: 50, scope: {applications: [pics]}, qos: {arp: 8}}
- {id: shut, precedence: 60, scope: {rat_types: [GERA]}, gate_status: closed}
- {id: slow, precedence: 70, scope: {applications: [film]}, qos: {mbr_down_bps: 100000}}
"""
LESS, WITHOUT = "4 price-cliff?", "6 no-allowance"
case("a bigger, cheaper pack that is faster, too", FAST % ("", "fast"), LESS, WITHOUT)
case("a bigger, cheaper pack that is slower", FAST % ("fast", ""), WITHOUT)
case("a bigger, cheaper pack without the other's gate", FAST % ("shut", ""), LESS, WITHOUT)
case("a bigger, cheaper pack with a gate", FAST % ("", "shut"), WITHOUT)
case("a bigger, cheaper pack with a throttle", FAST % ("", "slow"), WITHOUT)
case("a bigger, cheaper pack of other names", FAST % ("plain", ""), LESS, WITHOUT)

WIDE = """
offerings:
- id: paid
  name: A
  kind: %s
  prices: [{id: fee, type: recurring, amount: 1}]
  allowances: [{id: v, octets: 1 GB, scope: {%s}}]
- {id: free, name: F, kind: add_on, rules: [free]}
rules:
- {id: free, precedence: 20, charging: free, min_confidence: 60, scope: {%s}}
"""
SOCIAL = "categories: [social]"
case("a paid pack inside a free category", WIDE % ("add_on", PICS, SOCIAL), "6 paid-under-free?")
case("a paid category inside a free category", WIDE % ("add_on", SOCIAL, SOCIAL), "6 paid-under-free?")
case("a paid pack whose own category is free", WIDE % ("add_on", PICS, f"{PICS}, {SOCIAL}"), "6 paid-under-free?")
case("a plan beside an add-on that makes free", WIDE % ("base_plan", PICS, SOCIAL))
case("a paid pack beside another free category", WIDE % ("add_on", PICS, "categories: [streaming]"))
case("a pass inside a free category", WIDE % ("pass", PICS, SOCIAL), "5 pass-price?", "6 paid-under-free?")

GIVEN_AWAY = SPONSOR.replace("offerings:", """- {id: f, precedence: %s, scope: {%s}, charging: free}
offerings:
- {id: b, name: B, kind: add_on, rules: [f]}""").replace("%s}\nrules", "per_subscriber_octets: 1 GB}\nrules").replace(
    "rules: [r], %s", "rules: [r]")  # fmt: skip
case("a free rule before the sponsor's", GIVEN_AWAY % (5, SOCIAL), "4 paid-under-free?")
case("a free rule after the sponsor's", GIVEN_AWAY % (15, SOCIAL))
case("a free rule for other traffic than the sponsor's", GIVEN_AWAY % (5, "categories: [streaming]"))

# Sponsors of nothing.

case("a sponsor of nothing", SPONSOR % ("per_subscriber_octets: 0", ""), "2 sponsor-budget")
SHARE = "per_subscriber_octets: 1 GB, budget: {octets: %s}"
case("a budget below one share", SPONSOR % (SHARE % "1 MB", ""), "2 sponsor-budget?")
case("a budget of many shares", SPONSOR % (SHARE % "1 TB", ""))

# Sales that cannot be.

case("two that require each other", """
    offerings:
    - {id: a, name: A, kind: add_on, requires: [b]}
    - {id: b, name: B, kind: add_on, requires: [a]}
    """, "2 unorderable", "3 unorderable")  # fmt: skip
case("it requires itself", "offerings:\n- {id: a, name: A, kind: add_on, requires: [a]}\n", "2 unorderable")
case("it requires what nobody can order, or something else", REQUIRES % ("requires: [old]", "old, new", ""),
     "2 unorderable")  # fmt: skip
OF_OLD = "eligibility: {offerings: [old]}"
case("it is for holders of what it excludes", REQUIRES % ("", "new", f"{OF_OLD}, excludes: [old]"), "4 unorderable")
case("it is for holders of another plan", REQUIRES % ("", "new", OF_OLD), "4 unorderable")
case("it is for holders of its plan", REQUIRES % ("", "old", OF_OLD))
case("a plan for holders of another plan", REQUIRES % ("eligibility: {offerings: [new]}", "new", ""), "2 unorderable")
case("its sale begins when the other's has ended", REQUIRES % (
    "valid_until_ms: 1790000000001", "old", "valid_from_ms: 1790000000001"), "4 unorderable?")  # fmt: skip
case("a sale that is over", REQUIRES % ("valid_until_ms: 5", "new", ""), "2 sale-over?")
case("a sale that is over, and says so", REQUIRES % ("valid_until_ms: 5, lifecycle_status: retired", "new", ""))

PASS = """
offerings:
- {id: p, name: P, kind: %s, prices: [{id: fee, type: %s, amount: 1}], %s}
"""
case("a monthly price of a pass without an end", PASS % ("pass", "recurring", ""), "2 pass-price?")
case("a monthly price of an add-on without an end", PASS % ("add_on", "recurring", ""))
case("one price of a pass without an end", PASS % ("pass", "one_time", ""))
case("a monthly price of a week", PASS % ("pass", "recurring", "term_days: 7"), "2 pass-price?")
case("a monthly price of four weeks", PASS % ("pass", "recurring", "term_days: 28"))
case("a monthly price of a week, by the day", PASS % ("pass", "recurring, proration: daily", "term_days: 7"))

# Words that change nothing.

WORDS = """
offerings:
- {id: p, name: P, kind: base_plan, allowances: [{id: v, octets: 1 GB, %s}], rules: [after, %s], %s}
rules:
- {id: after, precedence: 9, charging: %s, gate_status: %s, min_confidence: 60,
   bucket: {allowance: v, state: exhausted}}
"""


def words(
    allowance: str = "", rule: str = "", offering: str = "", *, after: tuple[str, str] = ("charge", "open")
) -> str:
    return WORDS % (allowance, rule, offering, *after)


VOID = "2 no-effect?"
case("nothing without effect", words())
case("a grant of nothing", words().replace("1 GB", "0 GB"), VOID)
case("a share beyond the whole", words("per_member_octets: 2 GB"), VOID)
case("a share of the whole", words("per_member_octets: 500 MB"))
case("a rollover of nothing", words("rollover: {octets: 0 GB}"), VOID)
case("a rollover of something", words("rollover: {octets: 1 GB}"))
case("a tolerance of everything", words("overshoot_tolerance_octets: 1 GB"), VOID)
case("a tolerance", words("overshoot_tolerance_octets: 10 MB"))
case("a rule twice", words(rule="after"), VOID)
case("a threshold twice", words("notify_percents: [50, 50]"), VOID)
case("a block that is free", words("on_exhausted: block", after=("free", "open")), VOID)
case("a block that is closed", words("on_exhausted: block", after=("charge", "closed")))
case("a trial of what costs nothing", words(offering="trial_days: 7"), VOID)
FEE = "prices: [{id: fee, type: recurring, amount: 10}]"
case("a trial of what costs something", words(offering=f"trial_days: 7, {FEE}"))
case("a rent below the fees", words(offering=f"minimum_rent: 10, {FEE}"), VOID)
case("a rent above the fees", words(offering=f"minimum_rent: 11, {FEE}"))
case("a reminder before the term", words(offering="term_days: 7, renewal: automatic, renewal_reminder_days: 7"), VOID)
case("a reminder within the term", words(offering="term_days: 7, renewal: automatic, renewal_reminder_days: 6"))
TIER = "usage_prices: [{id: u, amount: 1, per_octets: 1 GB, cap: 5, on_cap: %s, tiers: [{above: %s, amount: 2}]}]"
case("a tier beyond a free cap", words(offering=TIER % ("free", "5 GB")), VOID)
case("a tier before a free cap", words(offering=TIER % ("free", "4 GB")))
case("a tier beyond a cap that can be raised", words(offering=TIER % ("block", "5 GB")))
GIFT = "money_allowances: [{id: gift, amount: 2, scope: {%s}}], usage_prices: [{id: u, amount: 1, scope: {%s}}]"
case("money for what has a price", words(offering=GIFT % (PICS, SOCIAL)))
case("money for what has none", words(offering=GIFT % (PICS, "categories: [streaming]")), VOID)

RATES = """
rules:
- {id: r, precedence: 10, qos: {%s}, gate_status: %s}
offerings:
- {id: a, name: A, kind: add_on, rules: [r]}
campaigns:
- {id: c, sponsor_id: s, per_subscriber_octets: 1 GB}
"""
case("a rate of nothing", RATES % ("mbr_down_bps: 0", "open"), "2 rates", NOT_USED)
case("a rate of nothing behind a gate", RATES % ("mbr_down_bps: 0", "closed"), NOT_USED)
case("more guaranteed than allowed", RATES % ("gbr_up_bps: 2, mbr_up_bps: 1", "open"), "2 rates", NOT_USED)
case("as much guaranteed as allowed", RATES % ("gbr_up_bps: 1, mbr_up_bps: 1", "open"), NOT_USED)

# Time, and renewals.

TIME = """
offerings:
- id: plan
  name: P
  kind: base_plan
  allowances: [{id: data, octets: 9 GB}, {id: talk, seconds: 60 min, scope: {categories: [voip_im]%s}}]
"""

case("seconds for whatever a messenger does", TIME % "", "5 time-of-anything?")
case("seconds for calls", TIME % ", services: [call]")

RENEWED = """
offerings:
- {id: plan, name: P, kind: base_plan, allowances: [{id: data, octets: 9 GB}]}
- id: week
  name: W
  kind: pass
  term_days: 7
  renewal: automatic
  %s
  prices: [{id: fee, amount: 3, %s}]
"""

case("a whole month's price each week", RENEWED % ("", "type: recurring"), "9 renewal?")
case("a month's price by the day", RENEWED % ("", "type: recurring, proration: daily"))
case("a price for each week", RENEWED % ("", "type: one_time"))
case("a renewal without a word before", RENEWED % ("renewal_reminder_days: 0", "type: one_time"), "7 renewal?")

SHUT = """
rules:
- {id: r, precedence: 10, min_confidence: 60, scope: {applications: [pics]}, charging: %s, gate_status: closed}
offerings:
- {id: a, name: A, kind: add_on, rules: [r]}
"""
case("a closed gate that is free", SHUT % "free", "2 no-effect?")
case("a closed gate", SHUT % "charge")
case("an allowance whose own traffic a gate stops", GATED % (40, "categories: [social]", 30), "6 paid-under-gate?")
