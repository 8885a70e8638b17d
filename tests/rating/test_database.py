"""Opening, migrating, and exact numbers on both databases."""

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, insert, select

from services.rating.database import DatabaseDown, answers, migrate, open_database, reading, schema_problem, writing
from services.rating.models import buckets, ledger_offsets, metadata, movements, refused_usage
from services.runtime.settings import Settings, SettingsError


def test_the_migrations_build_exactly_the_tables_of_the_models(engine):
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, metadata) == []


def test_a_migrated_schema_has_no_problem_and_migrating_again_changes_nothing(engine):
    migrate(engine)
    assert schema_problem(engine) is None


def test_an_empty_database_names_the_next_step(tmp_path):
    assert "smartpipe migrate" in (schema_problem(open_database(Settings(data_dir=str(tmp_path)))) or "")


def test_two_processes_may_migrate_at_once(tmp_path):
    engines = [open_database(Settings(data_dir=str(tmp_path))) for _ in range(2)]
    failures = []

    def run(engine):
        try:
            migrate(engine)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert schema_problem(engines[0]) is None


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, 2**63, -(2**63) - 1, 2**70 + 1, 10**36 - 1])
def test_a_whole_number_comes_back_as_it_was(engine, value):
    with writing(engine) as connection:
        connection.execute(insert(buckets).values(**_bucket("a", value)))
    with reading(engine) as connection:
        assert connection.scalar(select(buckets.c.remaining)) == value


def test_sums_are_exact_beyond_the_integers_of_the_database(engine):
    values = [2**63 - 1, 2**63 - 1, 1, -(2**70)]
    with writing(engine) as connection:
        connection.execute(insert(buckets), [_bucket(str(number), value) for number, value in enumerate(values)])
    with reading(engine) as connection:
        assert connection.scalar(select(func.exact_sum(buckets.c.remaining))) == sum(values)
        added = connection.scalar(select(func.max(func.exact_add(buckets.c.remaining, buckets.c.granted))))
        assert added is not None
        assert connection.scalar(select(func.exact_sum(movements.c.amount))) is None


def test_a_failed_transaction_leaves_nothing(engine):
    def fail():
        with writing(engine) as connection:
            connection.execute(insert(ledger_offsets).values(topic="t", partition=0, next_offset=1, booked_until_ms=0))
            raise KeyError("half way")

    with pytest.raises(KeyError):
        fail()
    with reading(engine) as connection:
        assert connection.scalar(select(func.count()).select_from(ledger_offsets)) == 0


def test_a_reader_sees_one_moment(engine):
    row = {"topic": "t", "cause": "malformed", "detail": "", "refused_at_ms": 0, "partition": 0}
    with reading(engine) as connection:
        count = select(func.count()).select_from(refused_usage)
        assert connection.scalar(count) == 0
        with writing(engine) as other:
            other.execute(insert(refused_usage).values(**row, offset=1))
        assert connection.scalar(count) == 0


def test_a_database_that_is_not_there_is_an_outage():
    engine = open_database(Settings(database_url="postgresql://nobody:secret-word@127.0.0.1:1/none"))
    with pytest.raises(DatabaseDown) as caught:
        answers(engine)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "no url", "postgresql+asyncpg://x/y", "sqlite://", "sqlite:///:memory:"]
)
def test_another_kind_of_database_is_refused_with_the_rule(url):
    with pytest.raises(SettingsError, match=r"SMARTPIPE_DATABASE_URL .*write postgresql\+psycopg://"):
        open_database(Settings(database_url=url))


def _bucket(account_id, remaining):
    return {
        "account_id": account_id,
        "bucket_id": "p/a",
        "unit": "octets",
        "bucket_key": account_id,
        "catalogue_version": "1",
        "remaining": remaining,
        "granted": 0,
        "changed_at_ms": 0,
    }
