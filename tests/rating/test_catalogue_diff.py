"""What differs between two catalogues."""

import pytest

from schemas.catalogue import Application, Catalogue, FlatPrice, Pfd, ProductOffering
from services.rating.catalogue_diff import diff_catalogues
from services.rating.catalogue_files import load_catalogue


def app(item_id, *names, category="other", **pfd):
    return Application(
        id=item_id, name=item_id, category=category, pfds=(Pfd(pfd_id="p", domain_names=names, **pfd),) if names else ()
    )


def plan(micros):
    return ProductOffering(
        id="plan", name="Plan", kind="base_plan", prices=(FlatPrice(id="m", type="recurring", amount=micros),)
    )


CASES = [
    ([app("a", "x.com")], [app("a", "x.com")], []),
    ([], [app("a", "x.com")], ["+ application a"]),
    ([app("a", "x.com")], [], ["- application a"]),
    ([app("a", "x.com")], [app("a", "x.com", "y.com")], ["+ application a: domain_names y.com"]),
    ([app("a", "x.com", "y.com")], [app("a", "x.com")], ["- application a: domain_names y.com"]),
    ([app("a", "x.com"), app("b", "z.com")], [app("a"), app("b", "z.com", "x.com")],
     ["> application b: domain_names x.com: a -> b"]),
    ([app("a", "x.com")], [app("b", "x.com")],
     ["- application a", "+ application b", "> application b: domain_names x.com: a -> b"]),
    ([app("a", "x.com")], [app("a", "x.com", category="social")], ["~ application a: category: 'other' -> 'social'"]),
    ([app("a", "x.com")], [app("a", "x.com", shared=True)],
     ["~ application a: domain_names x.com: pfd_id p -> pfd_id p, shared True"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), CASES, ids=[str(expected) for *_, expected in CASES])
def test_a_difference_is_one_line(old, new, expected):
    changes = diff_catalogues(Catalogue(version="1", applications=old), Catalogue(version="1", applications=new))
    assert [str(change) for change in changes] == expected


def test_version_currency_and_tariffs_are_compared_too():
    changes = diff_catalogues(
        Catalogue(version="1", offerings=(plan(1_000_000),)),
        Catalogue(version="2", currency="XAF", offerings=(plan(2_500_000),)),
    )
    assert [str(change) for change in changes] == [
        "~ catalogue version: 1 -> 2",
        "~ catalogue currency: EUR -> XAF",
        "~ offering plan: prices[m].amount: '1' -> '2.5'",
    ]


OFFERINGS = [
    ({"allowances": [{"id": "d", "octets": "5 GB"}]}, {"allowances": [{"id": "d", "octets": "2500 MB"}]},
     ["~ offering plan: allowances[d].octets: 5 GB -> 2500 MB"]),
    ({"allowances": [{"id": "d", "octets": 1_001}]}, {"allowances": [{"id": "d", "octets": 0}]},
     ["~ offering plan: allowances[d].octets: 1001 -> 0"]),
    ({"allowances": [{"id": "d", "octets": 1}]},
     {"allowances": [{"id": "d", "octets": 1, "rollover": {"percent": 50}}]},
     ["~ offering plan: allowances[d].rollover: (not stated) -> {'percent': 50}"]),
    ({"allowances": [{"id": "d", "octets": 1, "scope": {"categories": ["social"]}}]},
     {"allowances": [{"id": "d", "octets": 1, "scope": {"categories": ["social", "other"]}}]},
     ["+ offering plan: allowances[d].scope.categories[other]"]),
    ({"prices": [{"id": "a", "type": "one_time", "amount": "1"}]},
     {"prices": [{"id": "b", "type": "one_time", "amount": "1"}]},
     ["- offering plan: prices[a]", "+ offering plan: prices[b]"]),
    ({"rules": ["a", "b"]}, {"rules": ["b", "c"]}, ["- offering plan: rules[a]", "+ offering plan: rules[c]"]),
    ({"rules": ["a", "b"]}, {"rules": ["b", "a"]}, ["~ offering plan: rules: ['a', 'b'] -> ['b', 'a']"]),
    ({"term_days": 7}, {"term_days": None}, ["~ offering plan: term_days: 7 -> None"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), OFFERINGS, ids=[str(expected) for *_, expected in OFFERINGS])
def test_a_difference_inside_an_offering_is_told_where_it_is(old, new, expected):
    def having(version, **parts):
        offering = {"id": "plan", "name": "P", "kind": "add_on", **parts}
        rules = [{"id": name, "precedence": place} for place, name in enumerate("abc")]
        return Catalogue.model_validate({"version": version, "offerings": [offering], "rules": rules})

    assert [str(change) for change in diff_catalogues(having("1", **old), having("1", **new))] == expected


def test_a_catalogue_does_not_differ_from_itself():
    assert diff_catalogues(load_catalogue(), load_catalogue()) == ()
