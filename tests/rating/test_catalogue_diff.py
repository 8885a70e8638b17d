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
        "~ offering plan: prices: [{'id': 'm', 'type': 'recurring', 'amount': '1'}] -> "
        "[{'id': 'm', 'type': 'recurring', 'amount': '2.5'}]",
    ]


def test_a_catalogue_does_not_differ_from_itself():
    assert diff_catalogues(load_catalogue(), load_catalogue()) == ()
