"""Tariffs with one mistake each, and tariffs that come close to it: what lint finds in them, by file line."""

from textwrap import dedent

NOW_MS = 1_790_000_000_000

WORLD = """
applications:
- {id: chat, name: C, category: voip_im, exporter_ids: ["ndpi:C"], media_service: call}
- {id: pics, name: P, category: social, exporter_ids: ["ndpi:P"]}
- {id: film, name: F, category: streaming, exporter_ids: ["ndpi:F"]}
zones:
- {id: home, home: true}
- {id: abroad, rest: true}
"""

PLAN = "- {id: plan, name: P, kind: base_plan, allowances: [{id: data, octets: 9 GB}]"

CASES: dict[str, tuple[str, list[str]]] = {}


def case(name: str, text: str, *expected: str) -> None:
    assert name not in CASES
    CASES[name] = (dedent(text).lstrip("\n"), list(expected))


# Rules that never win. The second line of `rules` is the one in question.


def rules(first: str, second: str, *, plan: str = "one, two", addon: str = "", more: str = "") -> str:
    return f"""
    rules:
    - {{id: one, precedence: 10, {first}}}
    - {{id: two, precedence: 20, {second}}}
    offerings:
    - id: plan
      name: P
      kind: base_plan
      allowances: [{{id: data, octets: 9 GB}}]
      rules: [{plan}]
    - {{id: extra, name: E, kind: add_on, requires: [plan], rules: [{addon}]}}
    {more}
    """


SHADOW = "3 unreachable-rule"
case("same scope, same conditions", rules("", ""), SHADOW)
case("no offering brings it", rules("", "", plan="one"), SHADOW)
case("the required offering brings the other", rules("", "", plan="one", addon="two"), SHADOW)
case("who holds it may lack the other", rules("", "", plan="two", addon="one"))
case("another application", rules("scope: {applications: [pics]}", ""))
case("inside the other's scope", rules("", "scope: {applications: [pics]}"), SHADOW)
case("another RAT", rules("scope: {rat_types: [UTRA]}", "scope: {rat_types: [NR]}"))
case("a RAT of the other's", rules("scope: {rat_types: [UTRA, NR]}", "scope: {rat_types: [NR]}"), SHADOW)
case("a zone of the other's", rules("scope: {zones: [home, abroad]}", "scope: {zones: [home]}"), SHADOW)
case("the other needs more trust", rules("min_confidence: 80", ""))
case("the other needs less trust", rules("min_confidence: 40", "min_confidence: 80"), SHADOW)
case("the other is for some accounts", rules("subscribers: {segments: [group]}", ""))
case("the other is for some congestion", rules("min_congestion: 3", ""))
case("the other is for suspect traffic", rules("suspect: only", ""))
case("the other needs a bucket", rules("bucket: {allowance: data, state: available}", ""))
case(
    "inside the other's window",
    rules("scope: {windows: [{start: '20:00', end: '08:00'}]}", "scope: {windows: [{start: '23:00', end: '06:00'}]}"),
    SHADOW,
)
case(
    "only partly inside the other's window",
    rules("scope: {windows: [{start: '20:00', end: '05:00'}]}", "scope: {windows: [{start: '23:00', end: '06:00'}]}"),
)

SOLD = "- {id: sold, name: S, kind: add_on, usage_prices: [{id: use, amount: 1}]}"
THREE = """
rules:
- {id: one, precedence: 10, %s}
- {id: two, precedence: 20, %s}
- {id: three, precedence: 30, %s}
offerings:
- {id: plan, name: P, kind: base_plan, rules: [one, two, three], allowances: [{id: data, octets: 9 GB}]}
"""
LAST = "4 unreachable-rule"
case(
    "two rules cover it together, by RAT",
    THREE % ("scope: {rat_types: [UTRA]}", "scope: {rat_types: [NR]}", "scope: {rat_types: [UTRA, NR]}"), LAST,
)  # fmt: skip
case(
    "two rules leave a RAT to it",
    THREE % ("scope: {rat_types: [UTRA]}", "scope: {rat_types: [NR]}", "scope: {rat_types: [UTRA, NR, EUTRA]}"),
)
case("two rules leave what no RAT is known of", THREE % ("scope: {rat_types: [UTRA]}", "scope: {rat_types: [NR]}", ""))
case(
    "two rules cover it together, by category",
    THREE % ("scope: {categories: [social, other]}", "scope: {categories: [voip_im, streaming]}", ""), LAST,
)  # fmt: skip
case(
    "two rules cover it together, by time",
    THREE % ("scope: {windows: [{start: '06:00', end: '22:00'}]}", "scope: {windows: [{start: '22:00', end: '06:00'}]}",
             "scope: {applications: [pics]}"), LAST,
)  # fmt: skip
case(
    "two rules leave an hour to it",
    THREE % ("scope: {windows: [{start: '07:00', end: '22:00'}]}", "scope: {windows: [{start: '22:00', end: '06:00'}]}",
             "scope: {applications: [pics]}"),
)  # fmt: skip
FULL, EMPTY = "bucket: {allowance: data, state: available}", "bucket: {allowance: data, state: exhausted}"
case("two rules cover it together, by the bucket's state", THREE % (FULL, EMPTY, ""), LAST)
USED, FRESH = (
    "bucket: {allowance: data, state: used, percent: 80}",
    "bucket: {allowance: data, state: fresh, percent: %s}",
)
case("two rules cover it together, by what is used", THREE % (USED, FRESH % 80, ""), LAST)
case("two rules leave a part of the bucket to it", THREE % (USED, FRESH % 70, ""))
case("the other waits for money", rules("spend: {at_least: 5}", "", more=SOLD))
case("two rules wait for the same state", THREE % (FULL, FULL, ""), "3 unreachable-rule")

# Rules that win by chance.

TWO_PACKS = """
rules:
- {id: one, precedence: 10, %s}
- {id: two, precedence: 10, %s}
offerings:
- {id: a, name: A, kind: add_on, rules: [one], %s}
- {id: b, name: B, kind: add_on, rules: [two], %s}
"""
PRICED = "usage_prices: [{id: use, amount: 1}]"
CHANCE = "3 equal-precedence"
case("one precedence, one traffic", TWO_PACKS % ("", "scope: {applications: [pics]}", "", ""), CHANCE)
case(
    "one precedence, other traffic",
    TWO_PACKS % ("scope: {applications: [film]}", "scope: {applications: [pics]}", "", ""),
)
case(
    "an application of the other's category",
    TWO_PACKS % ("scope: {categories: [social]}", "scope: {applications: [pics]}", "", ""),
    CHANCE,
)
case(
    "an application of another category",
    TWO_PACKS % ("scope: {categories: [streaming]}", "scope: {applications: [pics]}", "", ""),
)
case("offerings that exclude each other", TWO_PACKS % ("", "", "excludes: [b]", ""))
case(
    "offerings for other people",
    TWO_PACKS % ("", "", "eligibility: {payments: [prepaid]}", "eligibility: {payments: [postpaid]}"),
)
case(
    "windows that never meet",
    TWO_PACKS % ("scope: {windows: [{days: [sat]}]}", "scope: {windows: [{days: [sun]}]}", "", ""),
)
case("congestion that never meets", TWO_PACKS % ("max_congestion: 3", "min_congestion: 4", "", ""))
case(
    "offerings of different plans",
    """
    rules:
    - {id: one, precedence: 10}
    - {id: two, precedence: 10}
    offerings:
    - {id: p, name: P, kind: base_plan}
    - {id: q, name: Q, kind: base_plan}
    - {id: a, name: A, kind: add_on, requires: [p], rules: [one]}
    - {id: b, name: B, kind: add_on, requires: [q], rules: [two]}
    """,
)
case("money that never meets", TWO_PACKS % ("spend: {below: 5}", "spend: {at_least: 5}", PRICED, ""))
case("money that meets", TWO_PACKS % ("spend: {below: 6}", "spend: {at_least: 5}", PRICED, ""), CHANCE)
ONE_PACK = """
rules:
- {id: one, precedence: 10, bucket: {allowance: v, %s}}
- {id: two, precedence: 10, bucket: {allowance: v, %s}}
offerings:
- {id: a, name: A, kind: add_on, rules: [one, two], allowances: [{id: v, octets: 1 GB}]}
"""
case("before and after a mark", ONE_PACK % ("state: fresh, percent: 80", "state: used, percent: 80"))
case("around two marks", ONE_PACK % ("state: fresh, percent: 80", "state: used, percent: 60"), CHANCE)
case("untouched or empty", ONE_PACK % ("state: fresh", "state: exhausted"))
case("used and empty", ONE_PACK % ("state: used, percent: 80", "state: exhausted"), CHANCE, SHADOW)
case("used and not empty", ONE_PACK % ("state: used, percent: 80", "state: available"), CHANCE)
case(
    "the two states of one bucket",
    """
    rules:
    - {id: one, precedence: 10, bucket: {allowance: v, state: available}}
    - {id: two, precedence: 10, bucket: {allowance: v, state: exhausted}}
    offerings:
    - {id: a, name: A, kind: add_on, rules: [one, two], allowances: [{id: v, octets: 1 GB}]}
    """,
)

# Rules and allowances that do not fit each other.

BUCKET = """
offerings:
- id: a
  name: A
  kind: add_on
  rules: [slow]
  allowances: [{id: film, octets: 1 GB, scope: {applications: [film]}%s}]
rules:
- {id: slow, precedence: 10, charging: free, min_confidence: 40, bucket: {allowance: %s, state: exhausted}, %s}
"""
RATE = "qos: {mbr_down_bps: 512000}"
THROTTLE = ", on_exhausted: throttle"
case("a throttle and its rule", BUCKET % (THROTTLE, "film", f"scope: {{applications: [film]}}, {RATE}"))
case(
    "a throttle and a rule without a rate",
    BUCKET % (THROTTLE, "film", "scope: {applications: [film]}"),
    "6 throttle-without-qos",
)
case(
    "a throttle and a rule for a part of it",
    BUCKET % (THROTTLE, "film", f"scope: {{rat_types: [NR]}}, {RATE}"),
    "6 throttle-without-qos",
)
case("an allowance that is not throttled needs no rate", BUCKET % ("", "film", "scope: {applications: [film]}"))
case("a rule for an allowance that is not granted", BUCKET % ("", "movie", RATE), "5 no-allowance")

EVIDENCE = """
rules:
- {id: r, precedence: 10, %s}
offerings:
- {id: a, name: A, kind: add_on, rules: [r], allowances: [{id: v, octets: 1 GB}]}
campaigns:
- {id: c, sponsor_id: s, per_subscriber_octets: 1 GB}
"""
NOT_USED = "6 campaign-unused?"
LAX = "min_confidence: 30\n"
WEAK = "2 weak-evidence?"
CHAT, SOCIAL = "scope: {applications: [chat]}", "scope: {categories: [social]}"
case("a gate closed on anything", EVIDENCE % f"{CHAT}, gate_status: closed", WEAK, NOT_USED)
case("a gate closed on a port's word", EVIDENCE % f"{CHAT}, gate_status: closed, min_confidence: 30", WEAK, NOT_USED)
case("a gate closed on good evidence", EVIDENCE % f"{CHAT}, gate_status: closed, min_confidence: 31", NOT_USED)
case("a gate closed by RAT needs no evidence", EVIDENCE % "scope: {rat_types: [GERA]}, gate_status: closed", NOT_USED)
case("a free category", EVIDENCE % f"{SOCIAL}, charging: free", NOT_USED)
case("a free category where a port is believed", EVIDENCE % f"{SOCIAL}, charging: free" + LAX, WEAK, NOT_USED)
case(
    "a sponsored application where a port is believed",
    EVIDENCE % f"{CHAT}, charging: sponsored, campaign: c" + LAX,
    WEAK,
)
case("a charged application", EVIDENCE % CHAT, NOT_USED)
case("what nothing speaks for is free", EVIDENCE % "scope: {categories: [other]}, charging: free", NOT_USED)
case(
    "a low rate after a bucket",
    EVIDENCE % f"{CHAT}, charging: free, {RATE}, bucket: {{allowance: v, state: exhausted}}",
    NOT_USED,
)

# Names of prices.

IDS = """
offerings:
- id: a
  name: A
  kind: %s
  usage_prices: [{id: use, amount: 1}]
- id: b
  name: B
  kind: %s
  usage_prices: [{id: %s, amount: 2}]
"""
case("a price id of two that can be held together", IDS % ("base_plan", "add_on", "use"), "9 price-id")
case("a price id of two plans", IDS % ("base_plan", "base_plan", "use"), "9 price-id?")
case("a price id for each", IDS % ("base_plan", "add_on", "b-use"))

TWINS = """
offerings:
- id: a
  name: A
  kind: add_on
  allowances:
  - {id: v, octets: 1 GB, scope: {applications: [chat]}}
  - {id: %s, octets: 2 GB, scope: {applications: [pics]}}
"""
case("two allowances of one id", TWINS % "v", "7 duplicate-id")
case("two allowances", TWINS % "w")

# Prices that fall.

TIERS = """
offerings:
- id: a
  name: A
  kind: base_plan
  usage_prices:
  - {id: use, amount: 4, per_octets: 1 MB, tier_mode: %s, tiers: [{above: 1 GB, amount: %s}]}
"""
case("a volume price that falls", TIERS % ("volume", 2), "6 price-cliff?")
case("a volume price that rises", TIERS % ("volume", 5), "6 price-cliff?")
case("a graduated price that falls", TIERS % ("graduated", 2))

CAPPED = """
offerings:
- id: a
  name: A
  kind: base_plan
  usage_prices:
  - {id: use, amount: 4, per_octets: 1 GB, %s}
"""
case("a cap below a whole unit", CAPPED % "whole_units: true, cap: 3", "6 price-cliff")
case("a cap of one whole unit", CAPPED % "whole_units: true, cap: 4")
case("a cap below a unit that can be divided", CAPPED % "cap: 3")
case("a cap of nothing", CAPPED % "whole_units: true, cap: 0")

PACK = """
offerings:
- id: plan
  name: P
  kind: base_plan
  usage_prices: [{id: use, amount: 2, per_octets: 1 GB, %s}]
- id: pack
  name: K
  kind: pass
  requires: [plan]
  prices: [{id: fee, type: one_time, amount: %s}]
  allowances: [{id: v, octets: 2 GB, validity: once}]
  rules: [%s]
rules:
- {id: fast, precedence: 10, bucket: {allowance: v, state: available}, qos: {arp: 8}}
"""
UNUSED = "14 unreachable-rule"
case("a pack that saves", PACK % ("", "3.99", ""), UNUSED)
case("a pack dearer than usage", PACK % ("", "4.00", ""), "10 price-cliff?", UNUSED)
case("a pack dearer than usage, and faster", PACK % ("", "4.00", "fast"))
case("a pack dearer than a free cap", PACK % ("cap: 3, on_cap: free", "3.50", ""), "10 price-cliff?", UNUSED)
case("a pack beyond a cap that blocks", PACK % ("cap: 3", "3.50", ""), UNUSED)

LADDER = """
offerings:
- id: small
  name: S
  kind: add_on
  prices: [{id: fee, type: recurring, amount: %s}]
  allowances: [{id: v, octets: 2 GB}]
- id: big
  name: B
  kind: add_on
  prices: [{id: fee, type: recurring, amount: %s}]
  allowances: [{id: v, octets: 5 GB, on_exhausted: %s}]
"""
case("the bigger pack is cheaper", LADDER % (5, 4, "continue"), "10 price-cliff?")
case("the bigger pack costs the same", LADDER % (5, 5, "continue"), "10 price-cliff?")
case("the bigger pack is dearer", LADDER % (5, 6, "continue"))
case("the bigger pack is another thing", LADDER % (5, 4, "block"))

STEP = """
offerings:
- id: small
  name: S
  kind: base_plan
  prices: [{id: fee, type: recurring, amount: 10}]
  allowances: [{id: v, octets: 2 GB}]
  usage_prices: [{id: use, amount: %s}]
- id: large
  name: L
  kind: base_plan
  prices: [{id: fee, type: recurring, amount: %s}]
  allowances: [{id: v, octets: 5 GB, on_exhausted: %s}]
  usage_prices: [{id: more, amount: 1, per_octets: 1 GB}]
"""
BY_GB, WHOLE = "2, per_octets: 1 GB", "8, per_octets: 1 GB, whole_units: true"
case("a step between plans", STEP % (BY_GB, 15, "continue"))
case("an octet that costs more than the next plan", STEP % (WHOLE, 15, "continue"), "7 price-cliff?")
case("an octet that costs as much as the next plan", STEP % (WHOLE, 18, "continue"))
case("a plan whose volume costs less in the smaller one", STEP % (BY_GB, 16, "continue"), "11 price-cliff?")
case("a plan that a free cap makes pointless", STEP % (f"{BY_GB}, cap: 3, on_cap: free", 14, "continue"),
     "11 price-cliff?")  # fmt: skip
case("a plan above one whose cap blocks", STEP % (f"{BY_GB}, cap: 3", 16, "continue"))
case("a plan that blocks where the other goes on", STEP % (WHOLE, 15, "block"))
case(
    "an octet that a minimum rent covers anyway",
    (STEP % (WHOLE, 15, "continue")).replace("  kind: base_plan\n", "  kind: base_plan\n  minimum_rent: 30\n"),
)

# Money asked for what is free.

UNDER_FREE = """
offerings:
- id: a
  name: A
  kind: add_on
  allowances: [{id: v, octets: 1 GB, scope: {%s}}]
  rules: [free, paid]
rules:
- {id: free, precedence: 20, charging: free, min_confidence: 0, scope: {categories: [other, social], %s}}
- {id: paid, precedence: %s, scope: {applications: [pics]}}
"""
case(
    "an allowance under a free rule",
    UNDER_FREE % ("applications: [pics], categories: [social]", "", 30),
    "5 paid-under-free",
)
case("an allowance partly under a free rule", UNDER_FREE % ("applications: [pics]", "", 30), "5 paid-under-free?")
case("an allowance whose rule comes first", UNDER_FREE % ("applications: [pics], categories: [social]", "", 10))
case("an allowance for another RAT than the free one", UNDER_FREE % ("categories: [social]", "rat_types: [NR]", 30))
case(
    "an allowance under a rule that is free for good evidence",
    """
    offerings:
    - id: a
      name: A
      kind: add_on
      allowances: [{id: v, octets: 1 GB, scope: {applications: [pics]}}]
      rules: [free]
    rules:
    - {id: free, precedence: 20, charging: free, min_confidence: 60, scope: {applications: [pics]}}
    """,
    "5 paid-under-free?",
)

BESIDE_FREE = """
offerings:
- id: paid
  name: A
  kind: add_on
  prices: [{id: fee, type: recurring, amount: %s}]
  allowances: [{id: v, octets: 1 GB, scope: {applications: [%s]}}]
  excludes: [%s]
- {id: free, name: F, kind: add_on, rules: [free]}
rules:
- {id: free, precedence: 20, charging: free, min_confidence: 60, scope: {applications: [pics, chat]}}
"""
case("a paid pack inside a free one", BESIDE_FREE % (1, "pics", ""), "6 paid-under-free?")
case("a paid pack that excludes the free one", BESIDE_FREE % (1, "pics", "free"))
case("a paid pack wider than the free one", BESIDE_FREE % (1, "pics, film", ""))
case("a pack that costs nothing beside a free one", BESIDE_FREE % (0, "pics", ""))

# Traffic that nothing pays for.

GAP = """
offerings:
- id: plan
  name: P
  kind: base_plan
  rules: [shut]
  allowances: [{id: v, octets: 1 GB, scope: {%s}}]
  usage_prices: [{id: use, amount: 1, scope: {%s}}]
rules:
- {id: shut, precedence: 20, gate_status: closed, scope: {%s}}
"""
NIGHT, DAY = "windows: [{start: '22:00', end: '06:00'}]", "windows: [{start: '06:00', end: '22:00'}]"
case("night and day", GAP % (NIGHT, DAY, "rat_types: [GERA]"), "7 gap?")
case("a bucket for the night, a price for always", GAP % (NIGHT, "", "rat_types: [GERA]"))
case("night alone", GAP % (NIGHT, NIGHT, "rat_types: [GERA]"), "6 gap?")
case("night, and by day a closed gate", GAP % (NIGHT, NIGHT, DAY))
case(
    "an hour between night and day",
    GAP % (NIGHT, "windows: [{start: '07:00', end: '22:00'}]", "rat_types: [GERA]"),
    "6 gap?",
)
case("one zone alone", GAP % ("zones: [home]", "zones: [home]", "rat_types: [GERA]"), "6 gap?")
case("every zone", GAP % ("zones: [home]", "zones: [home, abroad]", "rat_types: [GERA]"))
case("one zone, and a closed gate elsewhere", GAP % ("zones: [home]", "zones: [home]", "zones: [abroad]"))
case("5G alone", GAP % ("rat_types: [NR]", "rat_types: [NR]", "rat_types: [GERA]"), "6 gap?")
case("5G, and a price everywhere", GAP % ("rat_types: [NR]", "", "rat_types: [GERA]"))

ADD_ON_GAP = """
offerings:
- {id: plan, name: P, kind: base_plan, allowances: [{id: data, octets: 1 GB, scope: {%s}}]}
- id: night
  name: N
  kind: add_on
  requires: [plan]
  allowances: [{id: v, octets: 1 GB, scope: {applications: [pics], windows: [{start: '22:00', end: '06:00'}]}}]
"""
case("a night pack on a plan for everything", ADD_ON_GAP % "")
case(
    "a night pack on a plan that only has a price",
    ADD_ON_GAP.replace("allowances: [{id: data, octets: 1 GB, ", "usage_prices: [{id: use, amount: 1, ", 1) % "",
)
case("a night pack on a plan for something else", ADD_ON_GAP % "applications: [chat]", "7 gap?")

# Parts that are never heard.

OVERLAP = """
offerings:
- id: plan
  name: P
  kind: base_plan
  rules: [slow]
  usage_prices: [{id: rest, amount: 1}]
  allowances:
  - {id: v, octets: 1 GB, scope: {applications: [pics], windows: [%s]}, on_exhausted: throttle}
  - {id: w, octets: 1 GB, scope: {applications: [%s]}, on_exhausted: %s}
rules:
- {id: slow, precedence: 20, bucket: {allowance: v, state: exhausted}, qos: {mbr_down_bps: 1}}
"""
SATURDAY = "{days: [sat]}"
case("a throttle that a wider allowance overrules", OVERLAP % (SATURDAY, "pics, chat", "continue"), "8 overlap?")
case("allowances that say the same", OVERLAP % (SATURDAY, "pics, chat", "throttle"), "9 throttle-without-qos")
case("allowances that never meet", OVERLAP % (SATURDAY, "chat", "continue"))
case(
    "windows of one scope that overlap",
    OVERLAP % (f"{SATURDAY}, {{days: [fri], start: '20:00', end: '02:00'}}", "chat", "continue"),
    "8 overlap?",
)
case(
    "windows of one scope that touch",
    OVERLAP % (f"{SATURDAY}, {{days: [sun], start: '00:00', end: '02:00'}}", "chat", "continue"),
)

TWO_PRICES = """
offerings:
- id: plan
  name: P
  kind: base_plan
  usage_prices:
  - {id: one, amount: 1, scope: {%s}}
  - {id: two, amount: 2, scope: {%s}}
"""
case("two equally narrow prices", TWO_PRICES % ("applications: [pics]", "applications: [pics, chat]"), "7 overlap?")
case("a price for all and a narrow one", TWO_PRICES % ("", "applications: [pics]"))
case("a price for the night", TWO_PRICES % ("", NIGHT))

# Time.

VALID = """
offerings:
- id: a
  name: A
  kind: %s
  term_days: 7
  allowances: [{id: v, octets: 1 GB, %s}]
"""
case("an allowance that outlives its product", VALID % ("pass", "validity: once, valid_days: 8"), "6 validity?")
case("an allowance that ends before its product", VALID % ("pass", "validity: once, valid_days: 7"))
case("a pass whose volume is renewed", VALID % ("pass", "validity: cycle"), "6 validity?")
case("an add-on whose volume is renewed", VALID % ("add_on", "validity: cycle"))
case("days of a renewed volume", VALID % ("add_on", "validity: cycle, valid_days: 3"), "6 validity?")

REQUIRES = """
offerings:
- {id: old, name: O, kind: base_plan, %s}
- {id: new, name: N, kind: base_plan}
- {id: a, name: A, kind: add_on, requires: [%s], %s}
"""
case("it requires what is on sale", REQUIRES % ("", "old", ""))
case("it requires what is retired", REQUIRES % ("lifecycle_status: retired", "old", ""), "4 unorderable?")
case("it requires what is retired, or something else", REQUIRES % ("lifecycle_status: retired", "old, new", ""))
case(
    "it requires what is no longer sold",
    REQUIRES % ("valid_until_ms: 5", "old", ""),
    "2 sale-over?",
    "4 unorderable?",
)
case("it requires what it excludes", REQUIRES % ("", "old", "excludes: [old]"), "4 unorderable")
case(
    "what is retired may require what is retired",
    REQUIRES % ("lifecycle_status: retired", "old", "lifecycle_status: retired"),
)

SPONSOR = """
campaigns:
- {id: c, sponsor_id: s, %s}
rules:
- {id: r, precedence: 10, min_confidence: 60, scope: {applications: [pics]}, charging: sponsored, campaign: c}
offerings:
- {id: a, name: A, kind: add_on, rules: [r], %s}
"""
CAP = "per_subscriber_octets: 1 GB"
case("a sponsor with a limit", SPONSOR % (CAP, ""))
MONEY = 'budget: {amount: "50", amount_per_gb: "0.10"}'
case("a sponsor that is billed what its budget is counted by", SPONSOR % (MONEY, ""))
case("the same, said twice", SPONSOR % (MONEY + ', settlement: {amount_per_gb: "0.10"}', ""))
case("billed otherwise", SPONSOR % (MONEY + ', settlement: {amount_per_gb: "0.20"}', ""), "2 settlement-terms?")
case("billed for more", SPONSOR % (MONEY + ", settlement: {amount_per_gb: 0.1, amount_per_connections: 1}", ""),
     "2 settlement-terms?")  # fmt: skip
case("billed by connections", SPONSOR % (MONEY + ", settlement: {amount_per_connections: 1}", ""),
     "2 settlement-terms?")  # fmt: skip
case("a budget of octets can be billed anyhow", SPONSOR % (CAP + ", settlement: {amount_per_connections: 1}", ""))
case("a sponsor without any limit", SPONSOR % ("", ""), "2 sponsor-budget")
case("a campaign that is over", SPONSOR % (f"{CAP}, valid_until_ms: {NOW_MS}", ""), "2 campaign-over")
case("a campaign that runs", SPONSOR % (f"{CAP}, valid_until_ms: {NOW_MS + 1}", ""))
case(
    "a campaign that is over and off sale",
    SPONSOR % (f"{CAP}, valid_until_ms: {NOW_MS}", "lifecycle_status: retired"),
    "2 campaign-unused?",
)
case(
    "a campaign that never runs",
    SPONSOR % (f"{CAP}, valid_from_ms: {NOW_MS + 9}, valid_until_ms: {NOW_MS + 9}", ""),
    "2 campaign-over",
)
