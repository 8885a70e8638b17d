"""The accounts of one lane, kept as the very bytes of the changelog and decoded only for the moment of a decision.

At rest an account costs a few hundred octets, and "the replayed changelog equals the live state" can be checked byte
by byte. Decoded states are not kept: an account's next record is usually far away, its objects would long have left the
processor's caches, and walking them then costs several times what decoding one short run of bytes does. The lane drops
the whole object after any failure, so nothing here needs to be undone.
"""

from collections.abc import Iterator

import msgspec

from schemas.state import AccountState
from services.engine.packed import PackedAccount

KEY_PREFIX = b"a/"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AccountState).decode
_decode_packed = msgspec.msgpack.Decoder(PackedAccount).decode


class Accounts:
    """Account states by id: `get`, `at_hand`, `put`, and what `put` has changed since the last `changed`."""

    def __init__(self) -> None:
        self._at_rest: dict[str, bytes] = {}
        self._changed: dict[str, bytes] = {}

    def get(self, account_id: str) -> AccountState | None:
        """The account's present state, or None if this lane does not know it."""
        raw = self._at_rest.get(account_id)
        return None if raw is None else _decode(raw)

    def at_hand(self, account_id: str) -> PackedAccount | None:
        """The account's present state as far as a common flow looks at it, or None if this lane does not know it."""
        raw = self._at_rest.get(account_id)
        return None if raw is None else _decode_packed(raw)

    def put(self, state: AccountState) -> None:
        """Replace the account's state; it is part of the next `changed`."""
        # Encoded now, while its objects are still at hand, rather than at the end of the transaction.
        self._at_rest[state.account_id] = self._changed[state.account_id] = _encode(state)

    def changed(self) -> Iterator[tuple[bytes, bytes]]:
        """(changelog key, value) of every account that was put since the last call, each once, as it is now."""
        for account_id, raw in self._changed.items():
            yield KEY_PREFIX + account_id.encode(), raw
        self._changed = {}

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
        """The ids of all accounts."""
        return list(self._at_rest)

    def raw(self) -> dict[str, bytes]:
        """A copy of what is at rest, by account id: equal to the changelog after each transaction."""
        return dict(self._at_rest)

    def __len__(self) -> int:
        return len(self._at_rest)
