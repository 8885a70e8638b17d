from schemas.state import AccountState
from services.policy.accounts import Accounts


def state(account_id: str, balance_micros: int = 0) -> AccountState:
    return AccountState(version=1, account_id=account_id, subscriber_ids=(account_id,), balance_micros=balance_micros)


def test_changelog_entry_is_what_stays_at_rest() -> None:
    accounts = Accounts(cache_accounts=10)
    accounts.put(state("a", 5))
    changed = dict(accounts.changed())
    assert changed == {b"a/a": accounts.raw()["a"]}


def test_put_is_seen_by_get_before_it_is_written() -> None:
    accounts = Accounts(cache_accounts=10)
    accounts.put(state("a", 5))
    found = accounts.get("a")
    assert found is not None
    assert found.balance_micros == 5


def test_account_out_of_the_cache_is_read_from_rest() -> None:
    accounts = Accounts(cache_accounts=1)
    for name in ("a", "b", "c"):
        accounts.put(state(name, 7))
        list(accounts.changed())
    assert [accounts.get(name) for name in ("a", "b", "c")] == [state(name, 7) for name in ("a", "b", "c")]


def test_cache_is_bounded() -> None:
    accounts = Accounts(cache_accounts=3)
    for number in range(50):
        accounts.put(state(str(number)))
        list(accounts.changed())
    assert len(accounts._cache) == 3
    assert len(accounts) == 50


def test_state_is_written_once_per_transaction_however_often_it_changed() -> None:
    accounts = Accounts(cache_accounts=10)
    for balance in range(5):
        accounts.put(state("a", balance))
    assert len(list(accounts.changed())) == 1
    assert list(accounts.changed()) == []


def test_restored_account_equals_the_written_one() -> None:
    first, second = Accounts(cache_accounts=10), Accounts(cache_accounts=10)
    first.put(state("a", 9))
    for key, raw in first.changed():
        second.restore(key.decode().removeprefix("a/"), raw)
    assert second.get("a") == first.get("a")
    assert second.raw() == first.raw()


def test_unknown_account_is_none() -> None:
    assert Accounts(cache_accounts=10).get("nobody") is None
