"""Publishing the catalogue: every reader of the topic ends with exactly the version in force."""

import msgspec
import pytest
from msgspec.structs import replace

from schemas.topics import CATALOGUE
from services.engine.feed import CatalogueFeed, changes, entries_of
from services.rating.catalogue_store import (
    CatalogueRefused,
    Publication,
    announce_catalogue,
    publish_catalogue,
    stored_catalogue,
)
from services.rating.database import reading, writing
from services.rating.repositories import accounts, outbox
from services.rating.repositories import catalogue as shelf
from tests.rating.catalogues import STREAM_PACK, catalogue


def _published(engine):
    records = outbox.oldest(engine)
    assert {record.topic for record in records} <= {CATALOGUE}
    return records


def _fed(engine, feed=None):
    feed = feed or CatalogueFeed()
    for record in _published(engine):
        feed.offer(record.key, record.value)
    outbox.remove(engine, [record.id for record in _published(engine)])
    return feed


def _same(found, wanted):
    """Equal but for the order of objects, which means nothing."""
    return set(_entries(found)) == set(_entries(wanted))


def _entries(catalogue):
    return [str(entry) for entry in entries_of(catalogue)]


def test_a_reader_of_the_topic_gets_the_catalogue_that_was_published(engine):
    assert publish_catalogue(engine, catalogue()) == Publication("v1", 9)
    assert _same(_fed(engine).take(), catalogue())


def test_entries_of_an_older_minor_and_of_this_one_add_up_to_the_catalogue() -> None:
    feed = CatalogueFeed()
    before = [replace(entry, version="1.0") for entry in entries_of(catalogue())]
    kept = catalogue().model_dump(mode="json")["offerings"][:3]
    second = catalogue("v2", offerings=[*kept[:2], kept[2] | {"name": "Lighter"}])
    for entry in before:
        feed.offer(entry.entry_key.encode(), msgspec.json.encode(entry))
    assert _same(feed.take(), catalogue())
    for key, changed in changes(entries_of(catalogue()), entries_of(second)):
        feed.offer(key.encode(), None if changed is None else msgspec.json.encode(changed))
    assert _same(feed.take(), second)


def test_a_publication_over_another_version_than_the_one_looked_at_is_refused(engine):
    publish_catalogue(engine, catalogue())
    newer = catalogue(version="v2")
    with pytest.raises(CatalogueRefused, match="'v1' is in force, not 'v0' any more"):
        publish_catalogue(engine, newer, replacing="v0")
    assert publish_catalogue(engine, newer, replacing="v1").version == "v2"


def test_a_second_version_announces_only_what_differs_and_removes_what_is_gone(engine):
    publish_catalogue(engine, catalogue())
    feed = _fed(engine)
    feed.take()
    kept = catalogue().model_dump(mode="json")["offerings"][:3]
    second = catalogue("v2", offerings=[*kept[:2], kept[2] | {"name": "Lighter"}])
    publish_catalogue(engine, second)
    announced = {record.key.decode(): record.value for record in _published(engine)}
    assert announced.keys() == {"offering/stream-lite", "offering/old", "version"}
    assert announced["offering/old"] is None
    assert _same(_fed(engine, feed).take(), second)


def test_publishing_the_version_in_force_again_announces_nothing(engine):
    publish_catalogue(engine, catalogue())
    _fed(engine)
    assert publish_catalogue(engine, catalogue()).changed == 0
    assert _published(engine) == []


@pytest.mark.parametrize("offerings", [[], [STREAM_PACK | {"requires": [], "excludes": []}]])
def test_a_version_name_is_never_given_to_other_content(engine, offerings):
    publish_catalogue(engine, catalogue())
    _fed(engine)
    with pytest.raises(CatalogueRefused, match=r"'v1' was already published.*new name"):
        publish_catalogue(engine, catalogue(offerings=offerings))
    assert _published(engine) == []
    assert _same(stored_catalogue(engine), catalogue())


def test_the_currency_can_be_chosen_until_there_are_accounts_and_no_longer(engine):
    """A balance of 20 euros is not one of 20 dollars, and nothing would say so."""
    publish_catalogue(engine, catalogue())
    publish_catalogue(engine, catalogue("v2", currency="USD"))
    with writing(engine) as connection:
        accounts.lock(connection, ["a1"], at_ms=1)
    with pytest.raises(CatalogueRefused, match="EUR is not USD, which the balances of accounts are in"):
        publish_catalogue(engine, catalogue("v3", currency="EUR"))
    assert publish_catalogue(engine, catalogue("v3", currency="USD")).version == "v3"


def test_an_old_version_stays_readable(engine):
    publish_catalogue(engine, catalogue())
    publish_catalogue(engine, catalogue("v2", offerings=[]))
    assert _same(stored_catalogue(engine, "v1"), catalogue())
    assert stored_catalogue(engine).version == "v2"
    with reading(engine) as connection:
        assert shelf.find(connection, "v1", "rule", "stream-pack-rule")["precedence"] == 100
        assert shelf.find(connection, "v2", "offering", "basic") is None


def test_a_new_log_can_be_told_the_version_in_force(engine):
    assert announce_catalogue(engine) == 0
    publish_catalogue(engine, catalogue())
    _fed(engine)
    assert announce_catalogue(engine) == 10
    assert _same(_fed(engine).take(), catalogue())


def test_an_empty_database_has_no_catalogue(engine):
    assert stored_catalogue(engine) is None
    assert stored_catalogue(engine, "v9") is None
