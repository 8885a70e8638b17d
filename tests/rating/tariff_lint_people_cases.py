"""More tariffs with one mistake each: groups that are misspelt, rules for everybody, speed that costs what was free."""

from tests.rating.tariff_lint_cases import SHADOW, case, rules

# Segments, age bands and tiers are words of the operator's own; two that are one letter apart are one, misspelt.

GROUPS = """
rules:
- {id: r, precedence: 10, subscribers: {%s}}
offerings:
- {id: a, name: A, kind: base_plan, eligibility: {%s}, rules: [r]}
- {id: b, name: B, kind: base_plan, eligibility: {%s}}
"""


def groups(rule: str, first: str, second: str) -> str:
    return GROUPS % (rule, first, second)


case("groups that are spelt alike", groups("tiers: [gold]", "tiers: [gold]", "tiers: [silver]"))
case("a tier with two letters in the wrong order", groups("", "tiers: [gold]", "tiers: [glod, gold]"), "5 misspelt?")
case("a tier with a letter too many", groups("", "tiers: [silver]", "tiers: [sillver, silver]"), "5 misspelt?")
case("a tier with a wrong letter", groups("", "tiers: [silver]", "tiers: [salver, silver]"), "5 misspelt?")
case("a tier in another case", groups("", "tiers: [gold]", "tiers: [Gold, gold]"), "5 misspelt?")
case("tiers of two different words", groups("", "tiers: [gold]", "tiers: [old, silver]"))
case("tiers that end in a letter", groups("", "tiers: [class-a]", "tiers: [class-b]"))
case("short words of the trade", groups("", "segments: [b2b]", "segments: [b2c]"))
case(
    "a known segment with a letter too many", groups("", "segments: [groups]", "segments: [individual]"), "4 misspelt?"
)
case("age bands that differ in a number", groups("", "age_bands: ['18-25']", "age_bands: ['18-26']"))
case("age bands that differ in a sign", groups("", "age_bands: ['18-25']", "age_bands: ['18 25', '18-25']"),
     "5 misspelt?")  # fmt: skip
case("a rule for a misspelt tier", groups("tiers: [platinum, platinun]", "", ""), "2 misspelt?")

# Conditions that together are for everybody leave nothing to what comes after them.

PEOPLE = """
rules:
- {id: one, precedence: 10, subscribers: {%s}}
- {id: two, precedence: 20, subscribers: {%s}}
- {id: three, precedence: 30, qos: {arp: 8}%s}
offerings:
- {id: plan, name: P, kind: base_plan, rules: [one, two, three]}
"""
THIRD = SHADOW.replace("3", "4")
PREPAID, POSTPAID = "payments: [prepaid]", "payments: [postpaid]"
case("a rule after both ways of paying", PEOPLE % (PREPAID, POSTPAID, ""), THIRD)
case("a rule after one way of paying", PEOPLE % (PREPAID, PREPAID, ""), SHADOW)
case("a rule after both ways of paying, of gold alone", PEOPLE % (PREPAID, f"{POSTPAID}, tiers: [gold]", ""))
case(
    "a rule for gold after both ways of paying of gold",
    PEOPLE % (f"{PREPAID}, tiers: [gold]", f"{POSTPAID}, tiers: [gold]", ", subscribers: {tiers: [gold]}"),
    THIRD,
)
case(
    "a rule after all levels of consumption, which need not be stated",
    PEOPLE % ("consumption_levels: [low, middle]", "consumption_levels: [high, potential_high]", ""),
)
case("a rule for one way of paying after the same", PEOPLE % (POSTPAID, PREPAID, f", subscribers: {{{PREPAID}}}"),
     THIRD)  # fmt: skip
case(
    "one way of paying on a plan for it alone",
    """
rules:
- {id: one, precedence: 10, subscribers: {payments: [prepaid]}}
- {id: two, precedence: 20, qos: {arp: 8}}
offerings:
- {id: plan, name: P, kind: base_plan, eligibility: {payments: [prepaid]}, rules: [one, two]}
""",
    SHADOW,
)

OWNERS = """
rules:
- {id: one, precedence: 10, subscribers: {offerings: [small]}}
- {id: two, precedence: 20, subscribers: {offerings: [%s]}}
- {id: three, precedence: 30, qos: {arp: 8}}
offerings:
- {id: small, name: S, kind: base_plan}
- {id: large, name: L, kind: base_plan}
- {id: other, name: O, kind: base_plan}
- {id: pack, name: K, kind: add_on, requires: [%s], rules: [one, two, three]}
"""
case("a rule after the owners of every plan that it can stand on", OWNERS % ("large", "small, large"), THIRD)
case("a rule after the owners of some of these plans", OWNERS % ("large", "small, large, other"))
case("a rule after the owner of the pack itself", OWNERS % ("pack", "small, large, other"), THIRD)

# Speed for much, before what is free or sponsored: who buys it pays for what was to cost nothing.

FAST = "qos: {arp: 8}"
FREE = "scope: {categories: [social]}, charging: free, min_confidence: 60"
FASTER = "2 charged-before-free?"
case("speed before a free category", rules(FAST, FREE, plan="two", addon="one"), FASTER)
case("speed on one radio access before a free category",
     rules(f"{FAST}, scope: {{rat_types: [NR]}}", FREE, plan="two", addon="one"), FASTER)  # fmt: skip
case("speed for the application before its free category",
     rules(f"{FAST}, scope: {{applications: [pics]}}", FREE, plan="two", addon="one"))  # fmt: skip
case("a free category before speed", rules(FREE, FAST, plan="one", addon="two"))
case("an exception abroad before a free category",
     rules("scope: {zones: [abroad]}", FREE, plan="two", addon="one"))  # fmt: skip
case("speed for other traffic than the free one",
     rules(f"{FAST}, scope: {{zones: [abroad]}}", f"{FREE[:-20]}", plan="two", addon="one")
     .replace("[social]}", "[social], zones: [home]}"))  # fmt: skip

# A pack's own volume before what a sponsor pays for.

SPONSORED = """
campaigns: [{id: c, sponsor_id: s, per_subscriber_octets: 1 GB}]
rules:
- {id: one, precedence: %s, scope: {applications: [film]}, bucket: {allowance: v, state: available}}
- {id: two, precedence: 20, scope: {applications: [%s]}, charging: sponsored, campaign: c, min_confidence: 60}
offerings:
- {id: plan, name: P, kind: base_plan, allowances: [{id: v, octets: 1 GB}]}
- {id: house, name: H, kind: add_on, requires: [plan], rules: [two]%s}
- {id: pack, name: K, kind: add_on, requires: [plan], rules: [one],
   allowances: [{id: v, octets: 1 GB, scope: {applications: [film]}}]}
"""
case("a pack asked before the sponsor of the same", SPONSORED % (10, "film", ""), "3 charged-before-free?")
case("a pack asked after the sponsor of the same", SPONSORED % (30, "film", ""))
case("a pack asked before the sponsor of more", SPONSORED % (10, "film, pics", ""))
case("a pack that excludes the sponsored offering", SPONSORED % (10, "film", ", excludes: [pack]"))

# Amounts that cannot be spent.

WHOLE = """
offerings:
- id: plan
  name: P
  kind: base_plan
  usage_prices: [{id: use, amount: 3, per_octets: 1 GB, cap: %s%s}]
"""
case("a cap of whole units", WHOLE % (15, ", whole_units: true"))
case("a cap that is no multiple of a whole unit", WHOLE % (16, ", whole_units: true"), "5 no-effect?")
case("a cap within a unit that is divided", WHOLE % (16, ""))

# What one radio access alone lacks is told once, where all lack it.

ONE_GAP = """
rules:
- {id: r, precedence: 10, scope: {categories: [voip_im], rat_types: [GERA]}, gate_status: closed%s}
offerings:
- {id: plan, name: P, kind: base_plan, rules: [r], allowances: [{id: v, octets: 1 GB, scope: {zones: [home]}}]}
"""
case("a gap abroad beside a gate on one radio access", ONE_GAP % ", min_confidence: 50", "4 gap?")

# A pack whose traffic is free at home is bought by mistake.

AT_HOME = """
rules:
- {id: r, precedence: 10, scope: {categories: [social]%s}, charging: free, min_confidence: 60}
offerings:
- {id: plan, name: P, kind: base_plan, allowances: [{id: v, octets: 1 GB}]}
- {id: gift, name: G, kind: add_on, requires: [plan], rules: [r]}
- id: pack
  name: K
  kind: add_on
  requires: [plan]
  prices: [{id: fee, type: one_time, amount: 1}]
  allowances: [{id: pics, octets: 1 GB, scope: {applications: [pics]%s}}]
"""
case("a paid pack whose traffic is free at home", AT_HOME % (", zones: [home]", ""), "11 paid-under-free?")
case("a paid pack for abroad beside what is free at home", AT_HOME % (", zones: [home]", ", zones: [abroad]"))
case("a paid pack beside what is free on one radio access", AT_HOME % (", zones: [home], rat_types: [NR]", ""))

# A pass that is paid once and never ends.

ENDLESS = """
rules:
- {id: r, precedence: 10, qos: {arp: 8}%s}
offerings:
- {id: plan, name: P, kind: base_plan, allowances: [{id: v, octets: 1 GB}]}
- {id: pass, name: Q, kind: %s, requires: [plan], prices: [{id: fee, type: one_time, amount: 1}], rules: [%s]%s}
"""
ONCE = ", allowances: [{id: w, octets: 2 GB, validity: once}]"
case("a pass for speed without a term", ENDLESS % ("", "pass", "r", ""), "5 pass-price?")
case("a pass for speed with a term", ENDLESS % ("", "pass", "r", ", term_days: 1"))
case("an add-on for speed", ENDLESS % ("", "add_on", "r", ""))
case(
    "a pass for speed as long as its volume lasts",
    ENDLESS % (", bucket: {allowance: w, state: available}", "pass", "r", ONCE),
)
case(
    "a pass for speed after its volume",
    ENDLESS % (", bucket: {allowance: w, state: exhausted}", "pass", "r", ONCE),
    "5 pass-price?",
)
case(
    "a pass with volume for each cycle, and no term",
    ENDLESS % ("", "pass", "", ONCE.replace("once", "cycle")),
    "2 unreachable-rule",
    "5 pass-price?",
)

# Windows that are always open, and networks that nobody thought of.

WINDOW = """
offerings:
- id: plan
  name: P
  kind: base_plan
  usage_prices: [{id: rest, amount: 1}]
  allowances:
  - {id: v, octets: 1 GB, scope: {windows: [%s]}}
"""
case("a window at night", WINDOW % "{start: '23:00', end: '06:00'}")
case("a window that ends when it begins", WINDOW % "{start: '06:00', end: '06:00'}", "7 no-effect?")
case("a window that ends when it begins, on one day", WINDOW % "{days: [sat], start: '06:00', end: '06:00'}")
case("windows that are a week together", WINDOW % "{end: '12:00'}, {start: '12:00'}", "7 no-effect?")
