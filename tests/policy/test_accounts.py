import msgspec

from schemas.state import AccountState
from services.policy.accounts import Accounts


def state(account_id: str, balance_micros: int = 0) -> AccountState:
    return AccountState(version=1, account_id=account_id, subscriber_ids=(account_id,), balance_micros=balance_micros)


def test_changelog_entry_is_what_stays_at_rest() -> None:
    accounts = Accounts()
    accounts.put(state("a", 5))
    changed = dict(accounts.changed())
    assert changed == {b"a/a": accounts.raw()["a"]}


def test_put_is_seen_by_get_before_it_is_written() -> None:
    accounts = Accounts()
    accounts.put(state("a", 5))
    found = accounts.get("a")
    assert found is not None
    assert found.balance_micros == 5


def test_state_is_written_once_per_transaction_however_often_it_changed() -> None:
    accounts = Accounts()
    for balance in range(5):
        accounts.put(state("a", balance))
    assert dict(accounts.changed()) == {b"a/a": msgspec.msgpack.encode(state("a", 4))}
    assert list(accounts.changed()) == []


def test_restored_account_equals_the_written_one() -> None:
    first, second = Accounts(), Accounts()
    first.put(state("a", 9))
    for key, raw in first.changed():
        second.restore(key.decode().removeprefix("a/"), raw)
    assert second.get("a") == first.get("a")
    assert second.raw() == first.raw()


def test_unknown_account_is_none() -> None:
    assert Accounts().get("nobody") is None
