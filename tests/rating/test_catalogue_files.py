"""Catalogue files: what they may say, what they become, and how a mistake is pointed at."""

import json
import zipfile
from textwrap import dedent
from typing import get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import catalogue as contracts
from schemas.catalogue_amounts import MoneyAmount
from schemas.catalogue_scopes import CatalogueModel
from services.rating.catalogue_files import (
    MONEY_KEYS,
    CatalogueFilesError,
    load_catalogue,
    read_catalogue,
    shipped_folder,
)
from services.rating.catalogue_yaml import MAX_DEPTH, parse_yaml

CHAT = "- {id: chat, name: Chat, category: voip_im, pfds: [{pfd_id: names, domain_names: [chat.example]}]}"
PLAN = """
offerings:
  - id: basic
    name: Basic
    kind: base_plan
    prices: [{id: monthly, type: recurring, amount: 5}]
    usage_prices: [{id: per_mb, amount: 0.0125, per_octets: 1 MB, cap: 20}]
    allowances: [{id: general, octets: 5 GB}]
    rules: [general]
rules:
  - {id: general, precedence: 1000}
"""


@pytest.fixture
def write(tmp_path):
    """Writes files by name into one folder and returns it."""

    def save(**texts):
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        return tmp_path

    return save


def problems(folder):
    with pytest.raises(CatalogueFilesError) as caught:
        load_catalogue(folder)
    return [str(problem) for problem in caught.value.problems]


def test_all_files_of_a_folder_and_below_make_one_catalogue(write):
    folder = write(apps=f"applications:\n  {CHAT}", demo__plan=PLAN, more__deep__empty="# nothing yet")
    catalogue = load_catalogue(folder)
    assert [item.id for item in catalogue.applications] == ["chat"]
    assert [item.id for item in catalogue.offerings] == ["basic"]
    assert catalogue.currency == "EUR"


def test_the_shipped_catalogue_loads_and_its_version_is_a_digest():
    catalogue = load_catalogue()
    assert len(catalogue.applications) >= 400
    assert len(catalogue.version) == 12
    assert catalogue.version == load_catalogue().version


def test_a_folder_inside_a_zipped_wheel_loads_as_well(write, tmp_path):
    folder = write(apps=f"applications:\n  {CHAT}", demo__plan=PLAN)
    archive = tmp_path / "wheel.zip"
    with zipfile.ZipFile(archive, "w") as wheel:
        for path in folder.rglob("*.yaml"):
            wheel.write(path, f"catalogue/{path.relative_to(folder)}")
    assert load_catalogue(zipfile.Path(archive, "catalogue/")) == load_catalogue(folder)


def test_the_shipped_files_are_part_of_the_package():
    assert shipped_folder().joinpath("applications", "voip_im.yaml").is_file()


def test_layout_and_comments_do_not_change_the_version_but_content_does(write, tmp_path_factory):
    one = load_catalogue(write(apps=f"applications:\n  {CHAT}", plan=PLAN)).version
    other = tmp_path_factory.mktemp("other")
    (other / "z.yaml").write_text(f"# a comment\n{PLAN}\napplications:\n\n  {CHAT}\n")
    assert load_catalogue(other).version == one
    (other / "z.yaml").write_text(f"{PLAN}\napplications:\n  {CHAT.replace('chat.example', 'chats.example')}\n")
    assert load_catalogue(other).version != one


def test_a_version_is_stated_by_the_caller_or_by_a_file(write):
    folder = write(apps=f'version: "2031.1"\ncurrency: XAF\napplications:\n  {CHAT}')
    assert (load_catalogue(folder).version, load_catalogue(folder).currency) == ("2031.1", "XAF")
    assert load_catalogue(folder, version="mine").version == "mine"


def test_an_empty_version_is_refused(write):
    folder = write(apps=f"applications:\n  {CHAT}")
    with pytest.raises(CatalogueFilesError, match="version is ''"):
        load_catalogue(folder, version="")


def test_whole_money_in_a_file_is_units_of_currency_and_never_micro_units(write):
    (offering,) = load_catalogue(write(plan=PLAN)).offerings
    assert offering.prices[0].amount == 5_000_000
    assert offering.usage_prices[0].amount == 12_500
    assert offering.usage_prices[0].cap == 20_000_000
    assert offering.allowances[0].octets == 5 * 10**9


def test_every_field_of_money_is_known_to_the_loader():
    found = set()
    for model in vars(contracts).values():
        if isinstance(model, type) and issubclass(model, CatalogueModel):
            hints = get_type_hints(model, include_extras=True)
            found |= {name for name, hint in hints.items() if hint == MoneyAmount or MoneyAmount in get_args(hint)}
    assert found == MONEY_KEYS


def test_pfds_beside_the_application_join_it_and_keep_their_own_line(write):
    folder = write(
        a_list="""
        additional_pfds:
          - application: chat
            pfds:
              - pfd_id: imported
                source: "list:mine"
                domain_names: [
                  one.example,
                  two.example
                ]
        """,
        b_apps=f"applications:\n  {CHAT}",
    )
    source = read_catalogue(folder)
    (chat,) = source.catalogue.applications
    assert [pfd.pfd_id for pfd in chat.pfds] == ["names", "imported"]
    assert str(source.locate("applications", "chat", ("pfds", 1, "domain_names", 1))) == "a_list.yaml:9"
    assert str(source.locate("applications", "chat", ("pfds", 0, "domain_names", 0))) == "b_apps.yaml:2"
    assert str(source.locate("applications", "chat", ("pfds", 1, "ports", 7))) == "a_list.yaml:5"


A = "id: a, name: A, category: other"
PFD = "applications:\n- id: a\n  name: A\n  category: other\n  pfds:\n  - pfd_id: p\n"

MISTAKES = [
    ("applications: [{id: a, name: A, category: voip}]", "bad.yaml:1: application 'a': category is 'voip'"),
    ("applications:\n- id: a\n  name: A", "bad.yaml:2: application 'a': category is None: Field required; add the key"),
    (f"applications:\n- {{{A}}}\n- {{{A}}}", "bad.yaml:3: application id is 'a': bad.yaml:2 defines this application"),
    (f"applications:\n- {{{A},\n   kategory: x}}", "bad.yaml:3: application 'a': kategory is 'x'"),
    (f"applications:\n- {{{A},\n   kategory: x}}", "media_category; write 'category', or remove it"),
    (f"applications:\n- {{{A}, colour: x}}", "colour is 'x': there is no such key; known here are id, name"),
    (
        f"applications:\n- {{{A}, pfds: [{{pfd_id: p, domains: [a.example]}}]}}",
        "domains is ['a.example']: there",
    ),
    (
        f"applications:\n- {{{A}, pfds: [{{pfd_id: p, domain_name: [a.example]}}]}}",
        "write 'domain_names', or",
    ),
    (
        "offerings:\n- {id: a, name: A, kind: add_on, prices: [{id: f, type: one_time, amount: 9,99}]}",
        "prices[0].99 is None: there is no such key; known here are id, type, amount, proration, refund; "
        "a comma separates keys: write an amount with a point, e.g. 9.99",
    ),
    ("applications:\n- {id: a, name: 12, category: other}", "name is 12: Input should be a valid string; put it in"),
    ("applications:\n  id: a", "bad.yaml:1: applications is {'id': 'a'}: applications is a list"),
    ("aplications: []", "bad.yaml:1: key is 'aplications': the keys of a catalogue file are applications"),
    ("- id: a", "bad.yaml:1: file is [{'id': 'a'}]: a catalogue file is a mapping"),
    ("currency: 978", "bad.yaml:1: currency is 978: currency is text; put it in quotes"),
    ("min_confidence: many", "bad.yaml:1: min_confidence is 'many': min_confidence is a whole number; write digits"),
    ("min_confidence: 101", "bad.yaml:1: min_confidence is 101"),
    ("currency: euro", "bad.yaml:1: currency is 'euro'"),
    ("a: 1\na: 2", "bad.yaml:2: key is 'a': the file has it already, on line 1; keep one"),
    ("a: {b: 1, b: 2}", "bad.yaml:1: key is 'b': a has it already, on line 1; keep one"),
    ("a: [1, 2", "bad.yaml:2: this is not YAML"),
    ("a: !!python/object/apply:os.system [ls]", "bad.yaml:1: tag is"),
    ("a: &x [1]\nb: *x", "bad.yaml:2: alias is '*x': catalogue files have no aliases; write it out"),
    ("a: 1\n---\nb: 2", "bad.yaml:2: document is '---': a catalogue file is one document; split the file"),
    ("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH, f"bad.yaml:1: depth is {MAX_DEPTH + 1}"),
    ("? [a]\n: 1", "bad.yaml:1: key is '(a list or mapping)': keys are plain words"),
    ("a: \x00", "this is not YAML"),
    (
        "rules: [{id: r, precedence: 1, scope: {applications: [b]}}]",
        "bad.yaml:1: rule 'r' names application 'b', which does not exist; define it or mend the name",
    ),
    (
        "offerings:\n- {id: o, name: O, kind: pass, rules: [x]}\n- {id: p, name: P, kind: pass, requires: [q]}",
        "bad.yaml:3: offering 'p' names offering 'q'",
    ),
    (f"{PFD}    ports: [sctp/1]", "bad.yaml:6: application 'a': pfds[0]: pfd 'p': ports 'sctp/1'"),
    (
        "rules:\n- id: r\n  precedence: 1\n  scope:\n    applications:\n    - b",
        "bad.yaml:6: rule 'r' names application 'b'",
    ),
    (
        "offerings:\n- id: o\n  name: O\n  kind: pass\n  valid_from_ms: 2\n  valid_until_ms: 1",
        "bad.yaml:2: offering 'o': valid_until_ms 1 is not after valid_from_ms 2; put the two in order",
    ),
    (
        "offerings:\n- id: o\n  name: O\n  kind: pass\n  prices:\n  - {id: p, type: one_time, amount: -5}",
        "bad.yaml:6: offering 'o': prices[0].amount is -5: Input should be greater than or equal to 0",
    ),
    (PFD, "detects nothing; give one of domain_names"),
    (
        "offerings: [{id: o, name: O, kind: pass, prices: [{id: p, type: one_time, amount: 1e3}]}]",
        "prices[0].amount is '1e3'",
    ),
    (
        "additional_pfds: [{application: b, pfds: [{pfd_id: p, domain_names: [a.example]}]}]",
        "bad.yaml:1: additional_pfds application is 'b': no file defines this application",
    ),
    ("additional_pfds: [{application: b, pfds: []}]", "bad.yaml:1: additional_pfd 'b': pfds is []"),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[text[:40] for text, _ in MISTAKES])
def test_a_mistake_is_pointed_at_with_file_line_field_value_rule_and_next_step(write, text, expected):
    found = problems(write(bad=text))
    assert any(expected in problem for problem in found), found
    assert len(max(found, key=len)) < 500


def test_every_mistake_of_every_file_is_reported_at_once(write):
    found = problems(write(one="applications: 1\noffers: []", two="rules: [{id: r}]", three="currency: 1"))
    assert [problem.split(":")[0] for problem in found] == ["one.yaml", "one.yaml", "three.yaml", "two.yaml"]


def test_the_threshold_of_belief_is_read_and_makes_another_version(write):
    plain, strict = load_catalogue(write(apps=f"applications:\n  {CHAT}")), None
    strict = load_catalogue(write(apps=f"min_confidence: 60\napplications:\n  {CHAT}"))
    assert (plain.min_confidence, strict.min_confidence) == (31, 60)
    assert plain.version != strict.version


def test_two_files_may_not_disagree_about_the_currency(write):
    (found,) = problems(write(a="currency: EUR", b="\ncurrency: XAF"))
    assert found == "b.yaml:2: currency is 'XAF': a.yaml:1 states 'EUR', and a catalogue has one currency; keep one"


def test_the_other_ending_of_yaml_is_refused_and_not_passed_over(write):
    folder = write(apps=f"applications:\n  {CHAT}")
    (folder / "more.yml").write_text("applications: []")
    assert problems(folder) == ["more.yml: file name is 'more.yml': catalogue files end in .yaml; rename it"]


def test_text_that_is_not_utf_8_is_refused(write):
    folder = write()
    (folder / "latin.yaml").write_bytes("currency: é".encode("latin-1"))
    assert problems(folder)[0].startswith("latin.yaml: encoding is 'octet 10': catalogue files are UTF-8")


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "one.yaml").write_text("currency: EUR")
    told = f"{tmp_path}/one.yaml: this is a file; name a folder of *.yaml files"
    assert problems(tmp_path / "one.yaml") == [told]
    assert problems(tmp_path / "gone") == [f"{tmp_path}/gone: there is no such folder; name a folder of *.yaml files"]


WORDS = [
    ("no", "no"), ("on", "on"), ("12", 12), ("-3", -3), ("+4", 4), ("4.99", "4.99"), ("1e3", "1e3"), ("0x1f", "0x1f"),
    ("1_000", "1_000"), ("12:30", "12:30"), ("2031-01-01", "2031-01-01"), ("~", None), ("null", None), ("", None),
    ("true", True), ("False", False), ("'12'", "12"), ('"true"', "true"), ("=www.example.com", "=www.example.com"),
    ("!!str 12", None), ("|\n  12", "12"), ("9" * 20, "9" * 20),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), WORDS, ids=[text for text, _ in WORDS])
def test_scalars_are_what_they_look_like(text, value):
    tree = parse_yaml("f.yaml", f"a: {text}")
    assert tree.value == (None if "!!" in text else {"a": value})
    assert len(tree.problems) == ("!!" in text)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_and_never_raises(text):
    tree = parse_yaml("f.yaml", text)
    assert tree.value is None or not tree.problems


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text("abc xyz=.*", max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abk", min_size=1, max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_every_value_of_a_tree_has_a_line(value):
    tree = parse_yaml("f.yaml", json.dumps(value, indent=1))
    assert not tree.problems
    assert tree.value == value
    assert set(tree.lines) == set(_paths(value, ()))


def _paths(value, path):
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from _paths(inner, (*path, key))
