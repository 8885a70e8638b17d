"""An account as it is at hand for a flow: what a common decision never looks at stays packed, in the bytes it came in.

Most flows are whole draws from one bucket, free, or blocked again. They look at buckets, gathered usage and standing;
products, installed rules and past commands are only carried along. Whoever needs those asks for the whole account.
"""

from msgspec import Raw, msgpack

from schemas.state import AccountState

__all__ = ["PackedAccount", "unpacked"]

_NONE = Raw(b"\x90")
"""An empty list in MessagePack."""


class PackedAccount(AccountState, frozen=True, array_like=True, gc=False):
    """An AccountState, the same to the octet when encoded, whose parts below must not be looked at."""

    products: Raw = _NONE  # type: ignore[assignment]
    reservations: Raw = _NONE  # type: ignore[assignment]
    installed_rules: Raw = _NONE  # type: ignore[assignment]
    recent_commands: Raw = _NONE  # type: ignore[assignment]
    told_blocked: Raw = _NONE  # type: ignore[assignment]
    subscriber_ids: Raw = _NONE  # type: ignore[assignment]


_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(AccountState).decode


def unpacked(account: AccountState) -> AccountState:
    """The whole account; the same object when it is whole already."""
    return _decode(_encode(account)) if isinstance(account, PackedAccount) else account
