"""Lint: each kind of mistake is found where it stands, and what is right passes."""

from textwrap import dedent

import pytest

from services.rating.catalogue_files import read_catalogue
from services.rating.catalogue_lint import RULES, lint_catalogue, lint_folder


@pytest.fixture
def lint(tmp_path):
    """Lints one file; each finding comes back as `line code`."""

    def check(text):
        (tmp_path / "a.yaml").write_text(dedent(text), encoding="utf-8")
        return [f"{finding.location.line} {finding.code}" for finding in lint_folder(tmp_path)]

    return check


def apps(*bodies):
    """Applications app0, app1 ... with one PFD each; every body on a line of its own, the first on line 2."""
    lines = [
        f"- {{id: app{number}, name: A, category: other, pfds: [{{pfd_id: p, {body}}}]}}"
        for number, body in enumerate(bodies)
    ]
    return "\n".join(["applications:", *lines])


def test_the_shipped_catalogue_is_clean():
    assert [str(finding) for finding in lint_folder()] == []


NAMES = [
    ("domain_names: [a.example]", ["2 no-registry"]),
    ("domain_names: [shop.com]", []),
    ("domain_names: [SHOP.com]", ["2 syntax"]),
    ("domain_names: [shop.com.]", ["2 syntax"]),
    ("domain_names: ['shop.com:443']", ["2 syntax"]),
    ("domain_names: [bücher.de]", ["2 syntax"]),
    ("domain_names: [xn--bcher-kva.de]", []),
    ("domain_names: ['shop .com']", ["2 syntax"]),
    ("domain_names: [192.0.2.1]", ["2 syntax"]),
    ("domain_names: ['^(.*\\.)?shop\\.com$']", ["2 syntax"]),
    ("domain_names: ['shop.(com|net)']", ["2 syntax"]),
    ("domain_names: [com]", ["2 public-suffix"]),
    ("domain_names: [co.uk]", ["2 public-suffix"]),
    ("domain_names: ['*.com.br']", ["2 public-suffix"]),
    ("domain_names: [shop.comm]", ["2 no-registry"]),
    ("domain_names: ['=shop.comm']", []),
    ("domain_names: [github.io]", ["2 shared-suffix"]),
    ("domain_names: [akamaized.net]", ["2 shared-suffix"]),
    ("domain_names: [akamaized.net], shared: true", []),
    ("domain_names: [tenant.akamaized.net]", []),
    ("domain_names: ['tenant-*.akamaized.net']", []),
    ("domain_names: [shop.com, shop.com]", ["2 duplicate"]),
    ("domain_names: [shop.com, '*.shop.com']", ["2 shadowed"]),
    ("domain_names: [shop.com, '=shop.com']", ["2 shadowed"]),
    ("domain_names: [shop.com, api.shop.com]", ["2 shadowed"]),
    ("domain_names: [shop.com, myshop.com]", []),
    ("domain_names: ['=shop.com', api.shop.com]", []),
    ("urls: ['https://shop.com/x']", []),
    ("urls: ['https://(shop|store).com/']", ["2 syntax"]),
    ("urls: ['^https?://([^/]+\\.)?shop\\.com/watch/.*']", []),
    ("urls: ['^https?://(.*\\.)?co\\.uk/']", ["2 public-suffix"]),
    ("urls: ['http://192.0.2.1/x']", ["2 unusable"]),
    ("domain_names: ['a*b*.shop.com']", ["2 unusable"]),
    ("prefixes: [17.0.0.0/8]", []),
    ("prefixes: [16.0.0.0/7]", ["2 too-wide"]),
    ("prefixes: ['2001::/16']", []),
    ("prefixes: ['2000::/15']", ["2 too-wide"]),
    ("ports: [udp/1-16384]", []),
    ("ports: [udp/1-16385]", ["2 too-wide"]),
    ("flow_descriptions: [permit out tcp from 203.0.113.0/24 1-65535 to assigned]", []),
    ("flow_descriptions: [permit out tcp from 192.0.0.0/7 443 to assigned]", ["2 too-wide"]),
    ("flow_descriptions: [permit out udp from any 3478 to assigned]", []),
    ("flow_descriptions: [permit out udp from any to assigned]", ["2 too-wide"]),
    ("flow_descriptions: [permit in ip from any to assigned]", ["2 too-wide"]),
    ("flow_descriptions: [permit out ip from 0.0.0.0/0 to assigned]", ["2 too-wide"]),
    ("flow_descriptions: ['permit out udp from any 1-9000,20000-40000 to assigned']", ["2 too-wide"]),
    ("flow_descriptions: [permit out esp from any to assigned]", []),
    ("as_numbers: [64500]", []),
    ("as_numbers: [23456]", ["2 syntax"]),
    ("as_numbers: [0]", ["2 malformed"]),
    ("as_numbers: [4294967296]", ["2 malformed"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), NAMES, ids=[body for body, _ in NAMES])
def test_names_are_written_as_they_are_compared_and_belong_to_one_owner(lint, body, expected):
    assert lint(apps(body)) == expected


PAIRS = [
    ("domain_names: [shop.com]", "domain_names: [shop.com]", ["3 duplicate"]),
    ("domain_names: [shop.com]", "domain_names: ['=shop.com']", []),
    ("domain_names: [shop.com]", "domain_names: [pay.shop.com]", []),
    ("prefixes: [192.0.2.0/24]", "prefixes: [192.0.2.0/24]", ["3 duplicate"]),
    ("prefixes: [192.0.2.0/24]", "prefixes: [192.0.2.0/25]", []),
    ("ports: [udp/3478]", "ports: [udp/3478]", ["3 duplicate"]),
    ("ports: [udp/3478]", "ports: [tcp/3478]", []),
    ("exporter_ids: ['ndpi:Chat']", "exporter_ids: ['ndpi:chat']", ["3 duplicate", "3 duplicate"]),
    ("user_agents: [Chat/]", "user_agents: [Chat/]", ["3 duplicate"]),
    ("stun_realms: [chat]", "stun_realms: [Chat]", ["3 duplicate"]),
    ("ip_protocols: [50]", "ip_protocols: [50]", ["3 duplicate"]),
    ("as_numbers: [64500]", "as_numbers: [64501, 64500]", ["3 duplicate"]),
    ("flow_descriptions: ['permit out udp from 192.0.2.1 53 to any']",
     "flow_descriptions: ['permit out udp from 192.0.2.1 53 to any']", ["3 duplicate"]),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "expected"), PAIRS, ids=[f"{one} {other}" for one, other, _ in PAIRS])
def test_two_applications_may_not_claim_the_same(lint, one, other, expected):
    assert lint(apps(one, other)) == expected


def test_exporters_names_of_the_application_and_of_its_service_may_be_alike_only_within_it(lint):
    text = """
    applications:
    - {id: a, name: A, category: other, exporter_ids: ["ndpi:Chat"]}
    - id: b
      name: B
      category: other
      exporter_ids: ["ndpi:Chat"]
    """
    assert lint(text) == ["7 duplicate"]


def test_a_name_below_its_own_suffix_is_no_mistake_when_it_says_more(lint):
    text = """
    applications:
    - id: a
      name: A
      category: other
      pfds:
      - {pfd_id: p, domain_names: [shop.com]}
      - {pfd_id: call, service: call, domain_names: [call.shop.com]}
      - {pfd_id: files, service: files, domain_names: [media.shop.com, big.media.shop.com]}
    """
    assert lint(text) == ["9 shadowed"]


def test_a_name_below_a_strangers_name_below_its_own_suffix_is_no_mistake(lint):
    assert lint(apps("domain_names: [shop.com, a.b.shop.com]", "domain_names: [b.shop.com]")) == []


def test_an_application_that_nothing_detects_is_found(lint):
    text = """
    applications:
    - {id: a, name: A, category: other}
    - {id: b, name: B, category: other, exporter_ids: ["ndpi:B"]}
    - {id: c, name: C, category: other, ja4: [t13d1516h2_8daaf6152771_b186095e22b6]}
    """
    assert lint(text) == ["3 no-evidence", "5 no-evidence"]


def test_two_pfds_of_one_application_may_not_share_an_id(lint):
    text = """
    applications:
    - id: a
      name: A
      category: other
      pfds:
      - {pfd_id: p, ports: [tcp/1]}
      - {pfd_id: p, ports: [tcp/2]}
    """
    assert lint(text) == ["8 pfd-id"]


MALFORMED = [
    ("ports: [udp/70000]", "no port range"),
    ("ports: [sctp/1]", "not tcp or udp"),
    ("prefixes: [192.0.2.1/24]", "has host bits set"),
    ("prefixes: [300.0.0.0/8]", "does not appear to be"),
    ("flow_descriptions: ['deny in ip from any to any']", "must begin with"),
]


@pytest.mark.parametrize(("body", "rule"), MALFORMED, ids=[body for body, _ in MALFORMED])
def test_ports_prefixes_and_flows_that_cannot_be_read_are_findings_with_their_line(tmp_path, body, rule):
    (tmp_path / "a.yaml").write_text(apps(body))
    (finding,) = lint_folder(tmp_path)
    assert (finding.code, finding.location.line) == ("malformed", 2)
    assert rule in finding.message


def test_every_rule_has_a_case_above_that_trips_it(tmp_path):
    source = dedent(
        """
        applications:
        - {id: a, name: A, category: other,
           pfds: [{pfd_id: p, domain_names: [shop.com, api.shop.com, co.uk, X.com, "a*b*.x.com"]}]}
        - {id: b, name: B, category: other,
           pfds: [{pfd_id: p, domain_names: [shop.com]}, {pfd_id: p, ports: [tcp/1-65535]}]}
        - {id: c, name: C, category: other}
        """
    )
    (tmp_path / "a.yaml").write_text(source)
    read = read_catalogue(tmp_path)
    assert {code: len(list(rule(read))) for code, rule in RULES.items()} == {
        "duplicate": 1, "shadowed": 1, "public-suffix": 1, "no-evidence": 1, "syntax": 1, "unusable": 1,
        "too-wide": 1, "pfd-id": 1,
    }  # fmt: skip
    assert len(lint_catalogue(read, at_ms=0)) == 8
