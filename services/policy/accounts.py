"""The accounts of one lane: at rest as the very bytes of the changelog, decoded only while they are in use.

At rest an account costs a few hundred octets, and "the replayed changelog equals the live state" can be checked byte
by byte. The lane drops the whole object after any failure, so nothing here needs to be undone.
"""

from collections.abc import Iterator

import msgspec

from schemas.state import AccountState

KEY_PREFIX = b"a/"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AccountState).decode


class Accounts:
    """Account states by id: `get`, `put`, and what `put` has changed since the last `changed`."""

    def __init__(self, cache_accounts: int) -> None:
        self._at_rest: dict[str, bytes] = {}
        self._cache: dict[str, AccountState] = {}
        self._changed: dict[str, AccountState] = {}
        self._cache_accounts = cache_accounts

    def get(self, account_id: str) -> AccountState | None:
        """The account's present state, or None if this lane does not know it."""
        state = self._changed.get(account_id)
        if state is None:
            state = self._cache.get(account_id)
            if state is None and (raw := self._at_rest.get(account_id)) is not None:
                state = _decode(raw)
        return state

    def put(self, state: AccountState) -> None:
        """Replace the account's state; it is part of the next `changed`."""
        self._changed[state.account_id] = state

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """(changelog key, value) of every account that was put since the last call."""
        at_rest, cache = self._at_rest, self._cache
        for account_id, state in self._changed.items():
            raw = at_rest[account_id] = _encode(state)
            cache[account_id] = state
            yield KEY_PREFIX + account_id.encode(), raw
        self._changed = {}
        self._shrink_cache()

    def restore(self, account_id: str, raw: bytes) -> None:
        """Take one account from the changelog, as it is."""
        self._at_rest[account_id] = raw

    def states(self) -> Iterator[AccountState]:
        """Every account, decoded one at a time."""
        for account_id in self.ids():
            state = self.get(account_id)
            if state is not None:
                yield state

    def ids(self) -> list[str]:
        """The ids of all accounts at rest."""
        return list(self._at_rest)

    def raw(self) -> dict[str, bytes]:
        """A copy of what is at rest, by account id: equal to the changelog after each transaction."""
        return dict(self._at_rest)

    def __len__(self) -> int:
        return len(self._at_rest)

    def _shrink_cache(self) -> None:
        surplus = len(self._cache) - self._cache_accounts
        if surplus > 0:
            # The oldest entries go first; a dict keeps the order in which accounts entered.
            for account_id in [name for name, _ in zip(self._cache, range(surplus), strict=False)]:
                del self._cache[account_id]
