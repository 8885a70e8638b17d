"""The shipped catalogue: deep enough, and as orderly as its files promise."""

import re

import pytest

from services.rating.catalogue_files import read_catalogue


@pytest.fixture(scope="module")
def source():
    return read_catalogue()


def test_there_are_hundreds_of_applications_and_thousands_of_names(source):
    applications = source.catalogue.applications
    names = {name for item in applications for pfd in item.pfds for name in pfd.domain_names}
    assert len(applications) >= 400
    assert len(names) >= 3_000


@pytest.mark.parametrize(("category", "applications"), [("voip_im", 100), ("social", 100), ("streaming", 200)])
def test_every_category_that_a_tariff_treats_apart_is_well_filled(source, category, applications):
    assert sum(item.category == category for item in source.catalogue.applications) >= applications


def test_an_application_stands_in_the_file_of_its_category(source):
    strays = []
    for item in source.catalogue.applications:
        file = source.locate("applications", item.id).file.removeprefix("applications/").removesuffix(".yaml")
        if file != "protocols" and not (file == item.category or file.startswith(f"{item.category}_")):
            strays.append((item.id, item.category, file))
    assert strays == []


def test_ids_are_lower_snake_and_every_brand_names_its_provider_and_its_finer_kind(source):
    for item in source.catalogue.applications:
        assert re.fullmatch(r"[a-z0-9_]+|sd-rtn", item.id)
        assert item.subcategory, item.id
        if source.locate("applications", item.id).file != "applications/protocols.yaml":
            assert item.provider, item.id


WELL_KNOWN = [
    ("whatsapp", "voip_im"), ("wechat", "voip_im"), ("telegram", "voip_im"), ("line", "voip_im"), ("viber", "voip_im"),
    ("kakaotalk", "voip_im"), ("zalo", "voip_im"), ("teams", "voip_im"), ("zoom", "voip_im"), ("discord", "voip_im"),
    ("facebook", "social"), ("instagram", "social"), ("tiktok", "social"), ("vk", "social"), ("snapchat", "social"),
    ("youtube", "streaming"), ("netflix", "streaming"), ("spotify", "streaming"), ("bilibili", "streaming"),
    ("hotstar", "streaming"), ("globoplay", "streaming"), ("abema", "streaming"), ("showmax", "streaming"),
    ("twitch", "streaming"), ("steam", "other"), ("google_play", "other"), ("nordvpn", "other"), ("aws", "other"),
]  # fmt: skip


@pytest.mark.parametrize(("item_id", "category"), WELL_KNOWN)
def test_the_best_known_of_the_world_are_there_under_stable_ids(source, item_id, category):
    assert {item.id: item.category for item in source.catalogue.applications}[item_id] == category


def test_no_shipped_entry_claims_to_come_from_a_partner_or_an_operator(source):
    sources = {pfd.source for item in source.catalogue.applications for pfd in item.pfds}
    assert not {text for text in sources if text and text.startswith(("partner", "operator"))}
